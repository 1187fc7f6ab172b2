package auth

import (
	"encoding/json"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/xcord/xcord/engine/wire"
)

func (b bundle) storedHash(user wire.LoggedIn) (hash string) {
	b.t.Helper()
	b.must(b.pool.QueryRow(b.ctx, `select password from users where id = $1`, int64(user.UserID)).Scan(&hash))
	return hash
}

// TestSecurity_auth_argon2_params reads what a registration stored, and what a login makes of an older hash.
func TestSecurity_auth_argon2_params(t *testing.T) {
	t.Parallel()
	b := setupAt(t, Config{}, argonMemoryKiB)
	in, _ := b.register("ada")
	owasp := func(what string) {
		t.Helper()
		stored := b.storedHash(in)
		p, err := parsePHC(stored)
		if err != nil || !strings.HasPrefix(stored, "$argon2id$v=19$") || p.memory < 19456 || p.passes < 2 || p.threads != 1 ||
			len(p.salt) != 16 || len(p.key) != 32 {
			t.Errorf("%s: %s, %v", what, stored, err)
		}
	}
	owasp("after a registration")
	salt := []byte("0123456789abcdef")
	key := argon2.IDKey([]byte(password), salt, 1, 1024, 1, 32)
	_, err := b.pool.Exec(b.ctx, `update users set password = $2 where id = $1`, int64(in.UserID),
		phc(1024, 1, 1, encodeBase64(string(salt)), encodeBase64(string(key))))
	b.must(err)
	for range 2 { // by the old hash, and by the one that the first login made
		if _, err := b.client.Login(b.ctx, "ada", password); err != nil {
			t.Fatal(err)
		}
		owasp("after a login")
	}
}

// TestSecurity_auth_argon2_dos logs in 200 times at once: those who get no slot are told to come back, and there is never more
// hashing at a time than slots. It is not parallel, because it looks at the memory of the process.
func TestSecurity_auth_argon2_dos(t *testing.T) {
	const logins, slots = 200, 2
	if n := (Config{}).withDefaults().HashSlots; n > 2*runtime.NumCPU() {
		t.Errorf("%d slots by default on %d cores", n, runtime.NumCPU())
	}
	b := setupAt(t, Config{HashSlots: slots, HashWait: 100 * time.Millisecond}, argonMemoryKiB)
	b.register("ada")
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	statuses := make([]int, logins)
	var wg sync.WaitGroup
	for i := range statuses {
		wg.Go(func() {
			body, err := json.Marshal(wire.Login{Login: "ada", Password: password})
			if err != nil {
				t.Error(err)
				return
			}
			req, err := http.NewRequestWithContext(b.ctx, "POST", b.address()+"/api/v10/auth/login", strings.NewReader(string(body)))
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Content-Type", "application/json")
			res, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = res.Body.Close() }() // nobody reads it
			statuses[i] = res.StatusCode
			if res.StatusCode == 503 && res.Header.Get("Retry-After") == "" {
				t.Error("a refusal does not say when to come back")
			}
		})
	}
	wg.Wait()
	runtime.ReadMemStats(&after)
	count := map[int]int{}
	for _, s := range statuses {
		count[s]++
	}
	grown := int64(after.HeapSys) - int64(before.HeapSys)
	t.Logf("statuses %v, the heap has grown by %d MiB", count, grown>>20)
	if count[200]+count[503] != logins || count[200] == 0 || count[503] == 0 {
		t.Errorf("statuses %v", count)
	}
	// 200 connections take their share; without the slots it would be 3.8 GB.
	if limit := int64(2*slots*argonMemoryKiB<<10 + 64<<20); grown > limit {
		t.Errorf("the heap has grown by %d MiB, more than %d", grown>>20, limit>>20)
	}
}

// TestSecurity_auth_enum_timing: whether somebody is known must not show, neither in the answer nor in the work that is done for it. It
// is not parallel, because it counts hashes.
func TestSecurity_auth_enum_timing(t *testing.T) {
	b := setupAt(t, Config{}, argonMemoryKiB)
	b.register("ada")
	status, want := b.post("/auth/login", `{"login":"ada","password":"wrong password"}`)
	if status != 400 || !strings.Contains(want, codeInvalidLogin) {
		t.Fatalf("got %d %s", status, want)
	}
	lines := len(b.lines())
	for _, login := range []string{"ada", "nobody", "nobody@example.org", "ada@example.org"} {
		before := hashesTotal.Get()
		if s, got := b.post("/auth/login", `{"login":"`+login+`","password":"wrong password"}`); s != status || got != want {
			t.Errorf("%s: got %d %s, want %d %s", login, s, got, status, want)
		}
		if n := hashesTotal.Get() - before; n != 1 {
			t.Errorf("%s: %d hashes", login, n)
		}
		if now := len(b.lines()); now != lines+1 {
			t.Errorf("%s: %d lines in the audit log", login, now-lines)
		}
		lines++
	}
	// A disabled account, and one with a second factor, look the same as well to who does not have the password.
	if p, err := parsePHC(b.service.hasher.dummy()); err != nil || p.memory != argonMemoryKiB || p.passes != argonTime || p.threads != argonThreads {
		t.Errorf("the dummy takes less work: %+v, %v", p, err)
	}
}

// TestGuessed_TellsNobodyWhoThereIs: a guess in another spelling is one more of the same login, whether somebody has it or not.
func TestGuessed_TellsNobodyWhoThereIs(t *testing.T) {
	t.Parallel()
	for _, a := range []account{{}, {ID: 5}} {
		for _, spelling := range []string{"ADA", " ada ", "ａｄａ"} {
			if guessed(a, spelling) != guessed(a, "ada") {
				t.Errorf("account %s: %q has a count of its own", a.ID, spelling)
			}
		}
	}
	if guessed(account{}, "ada") == guessed(account{}, "eve") || guessed(account{ID: 5}, "ada") == guessed(account{ID: 6}, "ada") {
		t.Error("two logins have one count")
	}
}
