package tidy

// floors is the house: a package imports only packages of lower floors. A new package is added here, and to the table
// of packages in engine/ARCHITECTURE.md. An entry that ends in /... is a folder and all below it.
var floors = map[string]int{
	"engine/id": 0, "engine/perm": 0, "engine/fault": 0, "engine/conf": 0, "engine/life": 0, "engine/child": 0,
	"engine/wire": 1, "engine/redis": 1, "engine/postgres": 1, "engine/token": 1, "engine/obs": 1, "engine/files": 1,
	"engine/bus": 2, "engine/hub": 2, "engine/presence": 2, "engine/resume": 2, "engine/limit": 2, "engine/client": 2, "engine/openapi": 2,
	"engine/rest": 3, "engine/session": 3, "engine/roster": 3, "engine/reads": 3, "engine/identity": 3, "engine/picture": 3,
	"services/gateway": 4, "services/auth": 4, "services/messaging": 4, "services/guilds": 4, "services/voice": 4,
	"services/node": 5, "services/e2e": 5, "bench/...": 5,
	"services/cmd/...": 6, "bench/cmd/...": 6,

	// Beside the house: migrations are data, sfu is a library that knows nothing of the engine.
	"migrations": sideFloor, "sfu/...": sideFloor,
	// Helpers of tests. harness starts real servers, so it may see everything that a service may.
	"engine/life/lifetest": 1, "engine/harness": 4, "engine/witness": 3, "engine/tidy": 0,
}

// sideFloor is below every floor, so that whoever is not kept out by a rule of its own may import it.
const sideFloor = -1

// sameFloor are the imports within a floor that are allowed: permission overwrites are keyed by ids, events have positions
// in the log, and whom a token belongs to is asked by rest and looked up in the roster.
var sameFloor = map[string][]string{
	"engine/perm":     {"engine/id"},
	"engine/hub":      {"engine/bus"},
	"engine/identity": {"engine/rest", "engine/roster"},
}

// onlyImportedBy are packages that are not for everybody above them.
var onlyImportedBy = map[string][]string{
	"migrations": {"engine/postgres", "engine/harness"},
	"sfu/...":    {"sfu/...", "services/voice", "bench/..."},
}

// testHelpers may be imported by tests and by one another only.
var testHelpers = []string{"engine/harness", "engine/witness", "engine/life/lifetest", "engine/tidy"}

// A place is a package or folder of ours, or one of these.
const (
	anywhere   = "anywhere" // but not on floor 0, which has the standard library only
	storeFiles = "store*.go"
)

// thirdParties says where a module may be imported outside tests. What only tests import has an empty list. A new one
// is added here together with a decision record that says what it saves, what it weighs and how we would leave it.
var thirdParties = map[string][]string{
	"github.com/redis/rueidis":               {"engine/redis", "engine/bus", "engine/presence", "engine/resume", "engine/limit", "engine/roster"},
	"github.com/sony/gobreaker/v2":           {"engine/bus"},
	"github.com/jackc/pgx/v5":                {"engine/postgres", "engine/harness", storeFiles},
	"github.com/pressly/goose/v3":            {"engine/postgres"},
	"github.com/valyala/fasthttp":            {"engine/rest", "engine/session"},
	"github.com/fasthttp/router":             {"engine/rest"},
	"github.com/fasthttp/websocket":          {"engine/session", "engine/client"},
	"github.com/go-playground/validator/v10": {"engine/rest", "engine/wire"},
	"github.com/golang-jwt/jwt/v5":           {"engine/token"},
	"github.com/alecthomas/kong":             {"engine/conf"},
	"github.com/aws/aws-sdk-go-v2":           {"engine/files"},
	"github.com/VictoriaMetrics/metrics":     {anywhere},
	"github.com/cenkalti/backoff/v5":         {anywhere},
	"github.com/hashicorp/golang-lru/v2":     {anywhere},
	"github.com/pion":                        {"sfu/..."},
	"golang.org/x/sync":                      {anywhere},
	"golang.org/x/crypto":                    {"engine/token", "engine/rest", "services/auth"},
	"golang.org/x/image":                     {"engine/picture", "services/messaging"},
	"golang.org/x/text":                      {"services/auth"},

	"github.com/bwmarrin/discordgo":            {},
	"github.com/google/go-cmp":                 {},
	"github.com/santhosh-tekuri/jsonschema/v6": {"engine/witness"},
	"go.uber.org/goleak":                       {"engine/harness", "engine/life/lifetest"},
	"pgregory.net/rapid":                       {},
}

// floorZeroThirdParties are the exceptions to "the standard library only" on floor 0.
var floorZeroThirdParties = map[string]string{"engine/conf": "github.com/alecthomas/kong"}

// topLevel is what may lie in the root; bin and data are made by the Makefile and the program, and are not in git.
var topLevel = []string{
	"engine", "services", "sfu", "bench", "deploy", "migrations", "go.mod", "go.sum", "Makefile", "README.md", "LICENSE",
	"bin", "data",
}

// sqlPlaces may hold SQL besides files named store*.go.
var sqlPlaces = []string{"engine/postgres", "engine/harness", "engine/tidy", "migrations"}

const (
	fileLinesMax     = 600
	functionLinesMax = 80
)
