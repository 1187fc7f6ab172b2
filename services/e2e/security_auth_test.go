package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/xcord/xcord/engine/client"
	"github.com/xcord/xcord/engine/token"
	"github.com/xcord/xcord/engine/wire"
)

// forge makes tokens as somebody would who has seen one, and in some attacks even has the key.
type forge struct {
	w       *world
	key     ed25519.PrivateKey
	kid     string
	victim  *person
	session string
}

func newForge(t *testing.T, w *world) *forge {
	t.Helper()
	f := &forge{w: w, key: privateKey(t, w.settings.KeysDir, 1), victim: w.register(t, "victim")}
	head, body := segments(t, f.victim.token)
	f.kid, f.session = head["kid"].(string), body["sid"].(string)
	return f
}

func privateKey(t *testing.T, dir string, n int) ed25519.PrivateKey {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("access-%04d.key", n)))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(raw)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(ed25519.PrivateKey)
}

func segments(t *testing.T, raw string) (head, body map[string]any) {
	t.Helper()
	for i, into := range []*map[string]any{&head, &body} {
		b, err := base64.RawURLEncoding.DecodeString(strings.Split(raw, ".")[i])
		if err == nil {
			err = json.Unmarshal(b, into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return head, body
}

func (f *forge) claims(change map[string]any) jwt.MapClaims {
	now := time.Now()
	c := jwt.MapClaims{
		"iss": "xcord", "aud": "xcord", "sub": f.victim.id.String(), "sid": f.session, "jti": "j",
		"iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
	}
	return changed(c, change)
}

// changed changes a map; nil takes a key away.
func changed[M ~map[string]any](m M, change map[string]any) M {
	maps.Copy(m, change)
	maps.DeleteFunc(m, func(_ string, v any) bool { return v == nil })
	return m
}

// sign makes a token with any method and key, header and claims.
func (f *forge) sign(t *testing.T, method jwt.SigningMethod, key any, header, claims map[string]any) string {
	t.Helper()
	tok := jwt.NewWithClaims(method, f.claims(claims))
	tok.Header = changed(map[string]any{"alg": method.Alg(), "typ": "at+jwt", "kid": f.kid}, header)
	raw, err := tok.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// right is sign with the right method and key.
func (f *forge) right(t *testing.T, header, claims map[string]any) string {
	t.Helper()
	return f.sign(t, jwt.SigningMethodEdDSA, f.key, header, claims)
}

const unauthorized = `{"code":0,"message":"401: Unauthorized"}`

// refused expects that a token opens neither door, and that the answer says no more than that.
func (f *forge) refused(t *testing.T, raw string) {
	t.Helper()
	if status, body := f.rest(t, raw); status != http.StatusUnauthorized || body != unauthorized {
		t.Errorf("REST answers %d %s to %.80q", status, body, raw)
	}
	c := f.w.dial(t, v10)
	frame := identify(raw, "")
	want := wire.CloseAuthenticationFailed
	if len(frame) > wire.FrameMax {
		want = wire.CloseDecode
	}
	c.send(t, frame)
	c.closed(t, frame, want)
}

func (f *forge) accepted(t *testing.T, raw string) {
	t.Helper()
	if status, body := f.rest(t, raw); status != http.StatusOK {
		t.Errorf("REST answers %d %s", status, body)
	}
}

// rest asks with a token, written as it is: a library would refuse to send some of them.
func (f *forge) rest(t *testing.T, raw string) (status int, body string) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(f.w.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	go func() { // the server may answer before it has read everything
		_, _ = fmt.Fprintf(conn, "GET /api/v10/users/@me HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: %s\r\n\r\n", raw)
	}()
	return readAnswer(t, conn)
}

// TestSecurity_jwt tries every forgery that is known of JWTs on the real server, over REST and at the gateway.
func TestSecurity_jwt(t *testing.T) {
	t.Parallel()
	w := single(t)
	f := newForge(t, w)
	f.accepted(t, f.right(t, nil, nil)) // otherwise the forgeries would fail for another reason
	f.refusesAlgorithms(t)
	f.refusesClaims(t)
	f.refusesKids(t)

	attack(t, "jwt_dots", func(t *testing.T) {
		var before, after runtime.MemStats
		for _, raw := range []string{strings.Repeat(".", 1<<20), strings.Repeat(".", 4000), f.victim.token + strings.Repeat(".", 1000)} {
			runtime.ReadMemStats(&before)
			status, body := f.rest(t, raw)
			runtime.ReadMemStats(&after)
			if status != http.StatusUnauthorized && status != http.StatusRequestHeaderFieldsTooLarge {
				t.Errorf("%d dots are answered %d %s", len(raw), status, body)
			}
			t.Logf("%d dots: %d, %d bytes allocated by client and server together", len(raw), status, after.TotalAlloc-before.TotalAlloc)
		}
	})
	attack(t, "jwt_leeway", func(t *testing.T) {
		f.refused(t, f.right(t, nil, map[string]any{"iat": time.Now().Add(-time.Hour).Unix(), "exp": time.Now().Add(-31 * time.Second).Unix()}))
		for {
			// Accepted within this second: in the next one it may be over.
			now := time.Now().Unix()
			raw := f.right(t, nil, map[string]any{"iat": now - 3600, "exp": now - 29})
			status, _ := f.rest(t, raw)
			if status == http.StatusOK {
				return
			}
			if time.Now().Unix() == now {
				t.Fatalf("29 s after it expired a token is answered %d", status)
			}
		}
	})
}

func (f *forge) refusesAlgorithms(t *testing.T) {
	public := f.key.Public().(ed25519.PublicKey)
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	asPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	none := func(alg string) func(*testing.T) {
		return func(t *testing.T) {
			raw := f.sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, map[string]any{"alg": alg}, nil)
			f.refused(t, raw)
			signature := f.victim.token[strings.LastIndexByte(f.victim.token, '.'):]
			f.refused(t, strings.TrimSuffix(raw, ".")+signature)
		}
	}
	attack(t, "jwt_none", none("none"))
	attack(t, "jwt_None", none("None"))
	attack(t, "jwt_empty_sig", func(t *testing.T) {
		raw := f.right(t, nil, nil)
		dot := strings.LastIndexByte(raw, '.')
		f.refused(t, raw[:dot+1])
		f.refused(t, raw[:dot])
	})
	attack(t, "jwt_hs_with_public_key", func(t *testing.T) {
		for _, secret := range [][]byte{public, der, asPEM, bytes.TrimSpace(asPEM), []byte(f.kid)} {
			f.refused(t, f.sign(t, jwt.SigningMethodHS256, secret, nil, nil))
			f.refused(t, f.sign(t, jwt.SigningMethodHS256, secret, map[string]any{"alg": "EdDSA"}, nil))
		}
	})
	attack(t, "jwt_alg_list", func(t *testing.T) {
		rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range []struct {
			method jwt.SigningMethod
			key    any
		}{{jwt.SigningMethodHS256, []byte("secret")}, {jwt.SigningMethodRS256, rsaKey}, {jwt.SigningMethodES256, ecKey}, {jwt.SigningMethodPS256, rsaKey}} {
			f.refused(t, f.sign(t, m.method, m.key, nil, nil))
			f.refused(t, f.sign(t, m.method, m.key, map[string]any{"alg": "EdDSA"}, nil))
			f.refused(t, f.right(t, map[string]any{"alg": m.method.Alg()}, nil))
		}
	})
}

func (f *forge) refusesClaims(t *testing.T) {
	wrong := func(name string, header, claims map[string]any) {
		attack(t, name, func(t *testing.T) { f.refused(t, f.right(t, header, claims)) })
	}
	now := time.Now()
	wrong("jwt_expired", nil, map[string]any{"iat": now.Add(-time.Hour).Unix(), "exp": now.Add(-time.Minute).Unix()})
	wrong("jwt_no_exp", nil, map[string]any{"exp": nil})
	wrong("jwt_nbf_future", nil, map[string]any{"nbf": now.Add(time.Hour).Unix()})
	wrong("jwt_wrong_iss", nil, map[string]any{"iss": "discord"})
	wrong("jwt_wrong_aud", nil, map[string]any{"aud": []string{"xcord", "other"}})
	attack(t, "jwt_typ_refresh_as_access", func(t *testing.T) {
		f.refused(t, f.right(t, map[string]any{"typ": "rt+jwt"}, nil))
		f.refused(t, f.right(t, map[string]any{"typ": "JWT"}, nil))
		f.refused(t, f.right(t, map[string]any{"typ": nil}, nil))
		in, err := f.victim.Login(t.Context(), f.victim.name, password)
		if err != nil {
			t.Fatal(err)
		}
		f.refused(t, in.RefreshToken)
	})
	attack(t, "jwt_dup_claims", func(t *testing.T) {
		head := fmt.Sprintf(`{"alg":"EdDSA","typ":"at+jwt","kid":%q}`, f.kid)
		body := fmt.Sprintf(`{"iss":"xcord","aud":"xcord","sub":%q,"sid":%q,"iat":%d,"exp":%d}`, f.victim.id, f.session, time.Now().Unix(), time.Now().Unix()+60)
		f.accepted(t, f.text(head, body))
		f.refused(t, f.text(head, strings.Replace(body, `"sub"`, `"sub":"1","sub"`, 1)))
		f.refused(t, f.text(head, strings.Replace(body, `"exp"`, `"EXP":1,"exp"`, 1)))
		f.refused(t, f.text(strings.Replace(head, `"alg"`, `"alg":"none","alg"`, 1), body))
	})
}

// text signs segments as they are written.
func (f *forge) text(head, body string) string {
	said := base64.RawURLEncoding.EncodeToString([]byte(head)) + "." + base64.RawURLEncoding.EncodeToString([]byte(body))
	return said + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(f.key, []byte(said)))
}

// refusesKids: a kid is a name and nothing else. What it could name is there: a file with a key, and a listener.
func (f *forge) refusesKids(t *testing.T) {
	public, mine, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "mine.pub")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o644); err != nil {
		t.Fatal(err)
	}
	foreign := func(t *testing.T, header map[string]any) {
		t.Helper()
		f.refused(t, f.sign(t, jwt.SigningMethodEdDSA, mine, header, nil))
	}
	attack(t, "jwt_kid_traversal", func(t *testing.T) {
		path, err := filepath.Rel(f.w.settings.KeysDir, file)
		if err != nil {
			t.Fatal(err)
		}
		for _, kid := range []string{path, strings.TrimSuffix(path, ".pub"), file, "../../../../../../dev/null", "access-0001"} {
			foreign(t, map[string]any{"kid": kid})
		}
	})
	attack(t, "jwt_kid_sqli", func(t *testing.T) {
		for _, kid := range []string{"x' OR '1'='1", "x'; DROP TABLE users; --", "' UNION SELECT 'a"} {
			foreign(t, map[string]any{"kid": kid})
		}
		if _, err := f.victim.Me(t.Context()); err != nil {
			t.Error(err)
		}
	})
	attack(t, "jwt_kid_url", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		called := make(chan struct{})
		go func() {
			if c, err := l.Accept(); err == nil {
				_ = c.Close()
				close(called)
			}
		}()
		url := "http://" + l.Addr().String() + "/keys"
		for _, name := range []string{"kid", "jku", "x5u"} {
			foreign(t, map[string]any{name: url})
		}
		foreign(t, map[string]any{"jwk": map[string]any{"kty": "OKP", "crv": "Ed25519", "x": base64.RawURLEncoding.EncodeToString(public)}})
		_ = l.Close()
		select {
		case <-called:
			t.Error("the server asked for a key where the token told it to")
		default:
		}
	})
	attack(t, "jwt_kid_64KiB", func(t *testing.T) {
		raw := f.right(t, map[string]any{"kid": strings.Repeat("k", 64<<10)}, nil)
		if status, body := f.rest(t, raw); status != http.StatusRequestHeaderFieldsTooLarge && status != http.StatusUnauthorized {
			t.Errorf("got %d %s", status, body)
		}
		f.refused(t, f.right(t, map[string]any{"kid": strings.Repeat("k", 1000)}, nil))
	})
	attack(t, "jwt_kid_unknown", func(t *testing.T) {
		for _, kid := range []any{"unknown", "", nil, 7, []string{f.kid}, f.kid + "\n2026 level=ERROR forged"} {
			f.refused(t, f.right(t, map[string]any{"kid": kid}, nil))
		}
		foreign(t, nil)
	})
}

// TestSecurity_jwt_key_rotate rotates the keys of two running processes: what the old key signed is good within the overlap, and not
// after it.
func TestSecurity_jwt_key_rotate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.settings.KeysEvery = 20 * time.Millisecond
	w.divide(t)
	ada := w.register(t, "ada")
	kidOf := func(raw string) any { head, _ := segments(t, raw); return head["kid"] }
	kid, err := token.Rotate(w.settings.KeysDir)
	if err != nil {
		t.Fatal(err)
	}
	var fresh wire.LoginAnswer
	eventually(t, func() error {
		if fresh, err = ada.Login(t.Context(), ada.name, password); err == nil && kidOf(fresh.Token) != kid {
			err = errors.New("tokens are signed with the old key")
		}
		return err
	})
	if _, err := ada.Me(t.Context()); err != nil {
		t.Errorf("the old key within the overlap: %v", err)
	}
	// An hour and a half later, says the file's time.
	at := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(filepath.Join(w.settings.KeysDir, "access-0002.key"), at, at); err != nil {
		t.Fatal(err)
	}
	if _, err := token.Prune(w.settings.KeysDir); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if _, err := ada.Me(t.Context()); !client.IsStatus(err, http.StatusUnauthorized) {
			return fmt.Errorf("the old key after the overlap: %v", err)
		}
		return nil
	})
	if _, err := ada.WithToken(fresh.Token).Me(t.Context()); err != nil {
		t.Errorf("the new key: %v", err)
	}
}

func TestSecurity_refresh_rotation(t *testing.T) {
	t.Parallel()
	w := single(t)
	ada := w.register(t, "ada")
	in, err := ada.Login(t.Context(), ada.name, password)
	if err != nil {
		t.Fatal(err)
	}
	next, err := ada.Refresh(t.Context(), in.RefreshToken)
	if err != nil || next.RefreshToken == in.RefreshToken {
		t.Fatalf("got %+v, %v", next, err)
	}
	if _, err := ada.WithToken(next.Token).Me(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := ada.Refresh(t.Context(), next.RefreshToken); err != nil { // and with that the first is dead for good
		t.Error(err)
	}
	if _, err := ada.Refresh(t.Context(), in.RefreshToken); !client.IsStatus(err, 401) {
		t.Errorf("the spent one: %v", err)
	}
	var hashes [][]byte
	if err := w.pool.QueryRow(t.Context(), `select array_agg(hash) from refresh_tokens`).Scan(&hashes); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(next.RefreshToken))
	if !slices.ContainsFunc(hashes, func(h []byte) bool { return bytes.Equal(h, sum[:]) }) {
		t.Error("the token is not stored as its SHA-256")
	}
	if dump := w.dump(t); strings.Contains(dump, next.RefreshToken) || strings.Contains(dump, in.RefreshToken) {
		t.Error("a refresh token is stored as it is")
	}
}

// dump is every row of the tables of accounts, as text.
func (w *world) dump(t *testing.T) (all string) {
	t.Helper()
	const query = `select string_agg(x, ' ') from (select u::text x from users u union all select s::text from sessions s
		union all select r::text from refresh_tokens r union all select a::text from applications a union all select a::text from audit a) rows`
	if err := w.pool.QueryRow(t.Context(), query).Scan(&all); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestSecurity_refresh_reuse: who uses a spent token again, be it the user or a thief, ends the session for both.
func TestSecurity_refresh_reuse(t *testing.T) {
	t.Parallel()
	w := single(t)
	ada := w.register(t, "ada")
	in, err := ada.Login(t.Context(), ada.name, password)
	if err != nil {
		t.Fatal(err)
	}
	c, _ := w.identified(t, in.Token)
	first, err := ada.Refresh(t.Context(), in.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	second, err := ada.Refresh(t.Context(), first.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	for _, raw := range []string{in.RefreshToken, second.RefreshToken, first.RefreshToken} {
		if _, err := ada.Refresh(t.Context(), raw); !client.IsStatus(err, 401) {
			t.Errorf("got %v", err)
		}
	}
	c.closed(t, "the socket of the family", wire.CloseAuthenticationFailed)
	if _, err := ada.WithToken(second.Token).Me(t.Context()); !client.IsStatus(err, 401) {
		t.Errorf("the access token: %v", err)
	}
	var told int
	err = w.pool.QueryRow(t.Context(), `select count(*) from audit where action = 'session.token_reused' and target = $1`, int64(ada.id)).Scan(&told)
	if err != nil || told != 1 {
		t.Errorf("%d lines in the audit log, %v", told, err)
	}
	if _, err := ada.Me(t.Context()); err != nil {
		t.Errorf("another session: %v", err)
	}
}

func TestSecurity_refresh_race(t *testing.T) {
	t.Parallel()
	w := single(t)
	ada := w.register(t, "ada")
	in, err := ada.Login(t.Context(), ada.name, password)
	if err != nil {
		t.Fatal(err)
	}
	const racers = 20
	got := make([]wire.Tokens, racers)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			var err error
			if got[i], err = ada.Refresh(t.Context(), in.RefreshToken); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, g := range got {
		if g.RefreshToken != got[0].RefreshToken {
			t.Error("there are two successors")
		}
	}
	var live int
	err = w.pool.QueryRow(t.Context(), `select count(*) from refresh_tokens where spent_at is null and session = $1`, in.SessionID).Scan(&live)
	if err != nil || live != 1 {
		t.Errorf("%d live tokens in the family, %v", live, err)
	}
}

// TestSecurity_session_revoke_ws ends a login in each way there is, with sockets open on two gateways.
func TestSecurity_session_revoke_ws(t *testing.T) {
	t.Parallel()
	w, other := pair(t)
	urls := []string{w.url, other}
	end := func(how string, revoke func(t *testing.T, victim *person, in wire.LoggedIn) error) {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			ada := w.register(t, "ada")
			in, err := ada.Login(t.Context(), ada.name, password)
			if err != nil {
				t.Fatal(err)
			}
			var sockets []socket
			var ready wire.Ready
			for i := range 10 {
				at := &world{url: urls[i%2]}
				c, r := at.identified(t, in.Token)
				sockets, ready = append(sockets, c), r
			}
			mine, _ := w.identified(t, ada.token)
			began := time.Now()
			if err := revoke(t, ada, *in.LoggedIn); err != nil {
				t.Fatal(err)
			}
			for _, c := range sockets {
				c.closed(t, how, wire.CloseAuthenticationFailed)
			}
			t.Logf("%s: the last of %d sockets on two gateways was closed after %v", how, len(sockets), time.Since(began).Round(time.Millisecond))
			for _, url := range urls {
				c, err := client.New(client.Config{URL: url, Token: in.Token})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := c.Me(t.Context()); !client.IsStatus(err, 401) {
					t.Errorf("REST: %v", err)
				}
				at := &world{url: url}
				s := at.dial(t, v10)
				s.send(t, resume(in.Token, ready.SessionID, 1))
				s.closed(t, "RESUME with the token", wire.CloseAuthenticationFailed)
				s = at.dial(t, v10)
				s.send(t, resume(ada.token, ready.SessionID, 1)) // the same user's, by another login
				if f := s.next(t); f.Op != wire.OpInvalidSession {
					t.Errorf("RESUME of an ended session is answered with op %d", f.Op)
				}
			}
			mine.send(t, `{"op":1,"d":null}`)
			mine.until(t, wire.OpHeartbeatACK, "") // the login that did it goes on
		})
	}
	end("logout", func(t *testing.T, victim *person, in wire.LoggedIn) error {
		return victim.WithToken(in.Token).Logout(t.Context())
	})
	end("revoke", func(t *testing.T, victim *person, in wire.LoggedIn) error {
		sum := sha256.Sum256([]byte(in.SessionID))
		return victim.EndSessions(t.Context(), base64.RawURLEncoding.EncodeToString(sum[:]))
	})
	end("password change", func(t *testing.T, victim *person, _ wire.LoggedIn) error {
		old, next := password, "another horse battery"
		_, err := victim.UpdateMe(t.Context(), wire.UpdateSelf{Password: &old, NewPassword: &next})
		return err
	})
}

// TestSecurity_session_revoke_redis_down ends a login while nobody can be told.
func TestSecurity_session_revoke_redis_down(t *testing.T) {
	t.Parallel()
	w, other := pair(t)
	ada := w.register(t, "ada")
	in, err := ada.Login(t.Context(), ada.name, password)
	if err != nil {
		t.Fatal(err)
	}
	here, _ := w.identified(t, in.Token)
	elsewhere := &world{url: other}
	there, ready := elsewhere.identified(t, in.Token)
	w.redis.Stop()
	if err := ada.WithToken(in.Token).Logout(t.Context()); err != nil {
		t.Fatal(err)
	}
	here.closed(t, "the socket where it was ended", wire.CloseAuthenticationFailed) // without Redis
	if _, err := ada.WithToken(in.Token).Me(t.Context()); !client.IsStatus(err, 401) {
		t.Errorf("REST: %v", err)
	}
	there.send(t, `{"op":1,"d":null}`)
	there.until(t, wire.OpHeartbeatACK, "") // it cannot know, and does not end without a reason
	if err := w.redis.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	there.closed(t, "the socket on the other gateway", wire.CloseAuthenticationFailed)
	t.Logf("closed on the other gateway %v after Redis was back", time.Since(back).Round(time.Millisecond))
	s := elsewhere.dial(t, v10)
	s.send(t, resume(in.Token, ready.SessionID, 1))
	s.closed(t, "RESUME", wire.CloseAuthenticationFailed)
}
