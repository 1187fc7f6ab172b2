package token

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/xcord/xcord/engine/id"
)

const (
	user    id.ID = 175928847299117063
	session       = "s1"
)

// clock is a time that tests move.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

type bundle struct {
	clock    *clock
	keys     Keys
	minter   *Minter
	verifier *Verifier
}

func setup(t testing.TB) *bundle {
	t.Helper()
	keys := freshKeys(t)
	b := &bundle{clock: &clock{at: time.Unix(1704067200, 0)}, keys: keys}
	cfg := Config{Now: b.clock.now}
	var err error
	if b.minter, err = NewMinter(cfg, keys); err != nil {
		t.Fatal(err)
	}
	if b.verifier, err = NewVerifier(cfg, keys); err != nil {
		t.Fatal(err)
	}
	return b
}

func freshKeys(t testing.TB) Keys {
	t.Helper()
	pub, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	peer := make([]byte, peerKeyBytes)
	_, _ = rand.Read(peer)
	return Keys{kid: keyID(pub), private: private, public: map[string]ed25519.PublicKey{keyID(pub): pub}, peer: peer}
}

// refused checks that a token is refused, with the one error that tells nothing.
func (b *bundle) refused(t *testing.T, what, raw string) {
	t.Helper()
	if c, err := b.verifier.Verify(raw); err != ErrInvalid || c != (Claims{}) {
		t.Errorf("%s: got %+v, %v", what, c, err)
	}
}

// claims are those of a good token, as JSON would have them.
func (b *bundle) claims(change map[string]any) jwt.MapClaims {
	c := jwt.MapClaims{
		"iss": issuer, "aud": audience, "sub": user.String(), "sid": session, "jti": "j",
		"iat": b.clock.now().Unix(), "exp": b.clock.now().Add(time.Minute).Unix(),
	}
	return with(c, change)
}

// with changes a map; nil takes a key away.
func with[M ~map[string]any](m M, change map[string]any) M {
	maps.Copy(m, change)
	maps.DeleteFunc(m, func(_ string, v any) bool { return v == nil })
	return m
}

// sign makes a token with the right key and any header and claims.
func (b *bundle) sign(t testing.TB, header, claims map[string]any) string {
	t.Helper()
	tok := jwt.NewWithClaims(jwt.SigningMethodEdDSA, b.claims(claims))
	tok.Header = with(map[string]any{"alg": algorithm, "typ": accessType, "kid": b.keys.kid}, header)
	raw, err := tok.SignedString(b.keys.private)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// signText signs segments as they are written, for JSON that no encoder would make.
func (b *bundle) signText(header, claims string) string {
	said := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
	return said + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(b.keys.private, []byte(said)))
}

func TestVerifier_AcceptsWhatMinterMakes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	raw := b.minter.Mint(Claims{User: user, Session: session, TTL: time.Minute})
	for range 2 { // the second time from the cache
		c, err := b.verifier.Verify(raw)
		if err != nil {
			t.Fatal(err)
		}
		if c.User != user || c.Session != session || !c.Issued.Equal(b.clock.now()) || !c.Expires.Equal(b.clock.now().Add(time.Minute)) {
			t.Errorf("got %+v", c)
		}
	}
	if c, err := b.verifier.Verify(b.sign(t, nil, nil)); err != nil || c.User != user {
		t.Fatalf("the attacks below start from a token that is not good itself: %v", err)
	}
}

func TestVerifier_RefusesOtherAlgorithms(t *testing.T) {
	t.Parallel()
	b := setup(t)
	pub := b.keys.public[b.keys.kid]
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f := func(method jwt.SigningMethod, key any) {
		t.Helper()
		tok := jwt.NewWithClaims(method, b.claims(nil))
		tok.Header["typ"], tok.Header["kid"] = accessType, b.keys.kid
		raw, err := tok.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		b.refused(t, method.Alg(), raw)
		// The same again under the right name.
		head, rest, _ := strings.Cut(raw, ".")
		b.refused(t, method.Alg()+" as EdDSA", reheader(t, head, algorithm)+"."+rest)
	}
	f(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType)
	f(jwt.SigningMethodHS256, []byte(pub))
	f(jwt.SigningMethodHS256, der)
	f(jwt.SigningMethodHS512, []byte(b.keys.kid))
	f(jwt.SigningMethodRS256, rsaKey)
	f(jwt.SigningMethodPS256, rsaKey)
	f(jwt.SigningMethodES256, ecKey)

	head, rest, _ := strings.Cut(b.sign(t, nil, nil), ".")
	for _, alg := range []string{"none", "None", "NONE", "nOnE", "", "eddsa", "Ed25519", "HS256"} {
		b.refused(t, "alg "+alg, reheader(t, head, alg)+"."+rest)
		b.refused(t, "signed alg "+alg, b.sign(t, map[string]any{"alg": alg}, nil))
		body, _, _ := strings.Cut(rest, ".")
		b.refused(t, "unsigned alg "+alg, reheader(t, head, alg)+"."+body+".")
	}
}

func reheader(t *testing.T, head, alg string) string {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(head)
	if err != nil {
		t.Fatal(err)
	}
	var h map[string]any
	if err := json.Unmarshal(b, &h); err != nil {
		t.Fatal(err)
	}
	h["alg"] = alg
	if b, err = json.Marshal(h); err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func TestVerifier_RefusesBadSignatures(t *testing.T) {
	t.Parallel()
	b := setup(t)
	raw := b.sign(t, nil, nil)
	dot := strings.LastIndexByte(raw, '.')
	b.refused(t, "no signature", raw[:dot+1])
	b.refused(t, "no third part", raw[:dot])
	b.refused(t, "half a signature", raw[:dot+43])
	b.refused(t, "padding", raw+"=")
	b.refused(t, "space", " "+raw)
	b.refused(t, "a fourth part", raw+".x")
	b.refused(t, "another's key", setup(t).sign(t, map[string]any{"kid": b.keys.kid}, nil))
	flip := func(i int) string {
		c := byte('A')
		if raw[i] == c {
			c = 'B'
		}
		return raw[:i] + string(c) + raw[i+1:]
	}
	for i := range raw {
		if raw[i] != '.' {
			b.refused(t, "a changed character", flip(i))
		}
	}
	for _, s := range []string{"", ".", "..", "...", "a.b.c", "Bearer " + raw} {
		b.refused(t, s, s)
	}
}

func TestVerifier_RefusesBadClaims(t *testing.T) {
	t.Parallel()
	b := setup(t)
	f := func(what string, change map[string]any) {
		t.Helper()
		b.refused(t, what, b.sign(t, nil, change))
	}
	now := b.clock.now()
	f("expired", map[string]any{"exp": now.Add(-time.Hour).Unix(), "iat": now.Add(-2 * time.Hour).Unix()})
	f("no exp", map[string]any{"exp": nil})
	f("exp beyond numbers", map[string]any{"exp": json.Number("1e999")})
	f("nbf in the future", map[string]any{"nbf": now.Add(time.Minute).Unix()})
	f("iat in the future", map[string]any{"iat": now.Add(time.Minute).Unix(), "exp": now.Add(time.Hour).Unix()})
	f("no iat", map[string]any{"iat": nil})
	f("issued after it expires", map[string]any{"iat": now.Unix(), "exp": now.Add(-time.Second).Unix()})
	f("wrong issuer", map[string]any{"iss": "discord"})
	f("no issuer", map[string]any{"iss": nil})
	f("wrong audience", map[string]any{"aud": "other"})
	f("no audience", map[string]any{"aud": nil})
	f("audience and others", map[string]any{"aud": []string{audience, "other"}})
	f("no subject", map[string]any{"sub": nil})
	f("subject 0", map[string]any{"sub": "0"})
	f("subject no id", map[string]any{"sub": "1 OR 1=1"})
	f("subject a number", map[string]any{"sub": 7})
	f("no session", map[string]any{"sid": nil})
	f("empty session", map[string]any{"sid": ""})
	f("long session", map[string]any{"sid": strings.Repeat("s", sidBytesMax+1)})
}

func TestVerifier_RefusesOtherTypes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, typ := range []any{"rt+jwt", "JWT", "AT+JWT", "at+jwt ", "", nil, 7, []string{accessType}} {
		b.refused(t, "typ", b.sign(t, map[string]any{"typ": typ}, nil))
	}
	b.refused(t, "critical extension", b.sign(t, map[string]any{"crit": []string{"b64"}, "b64": false}, nil))
}

func TestVerifier_RefusesDuplicates(t *testing.T) {
	t.Parallel()
	b := setup(t)
	header := `{"alg":"EdDSA","typ":"at+jwt","kid":"` + b.keys.kid + `"}`
	claims := `{"iss":"xcord","aud":"xcord","sub":"7","sid":"s","iat":1704067200,"exp":1704067260}`
	if _, err := b.verifier.Verify(b.signText(header, claims)); err != nil {
		t.Fatal(err)
	}
	f := func(header, claims string) {
		t.Helper()
		b.refused(t, header+claims, b.signText(header, claims))
	}
	f(header, strings.Replace(claims, `"sub":"7"`, `"sub":"7","sub":"8"`, 1))
	f(header, strings.Replace(claims, `"sub":"7"`, `"sub":"7","SUB":"8"`, 1))
	f(header, strings.Replace(claims, `"exp"`, `"exp":1,"\u0065xp"`, 1))
	f(strings.Replace(header, `"alg":"EdDSA"`, `"alg":"none","alg":"EdDSA"`, 1), claims)
	f(strings.Replace(header, `"kid"`, `"kid":"x","kid"`, 1), claims)
	f(header, `[]`)
	f(header, `null`)
	f(`"x"`, claims)
	f(header, claims[:len(claims)-1])
	f(header, claims+claims)
}

func TestVerifier_UsesKidAsAMapKeyOnly(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, kid := range []any{
		"../../../../etc/passwd", "/dev/null", "x' OR '1'='1", "http://127.0.0.1:1/keys", "file:///etc/passwd",
		"", "unknown", b.keys.kid + "\x00", b.keys.kid + "\n", strings.Repeat("k", kidBytesMax+1), strings.Repeat("k", 64<<10), nil, 7, []string{b.keys.kid},
	} {
		b.refused(t, "kid", b.sign(t, map[string]any{"kid": kid}, nil))
	}
	// A key that the token brings along is not looked at.
	mallory := setup(t)
	jwk := map[string]any{"kty": "OKP", "crv": "Ed25519", "x": base64.RawURLEncoding.EncodeToString(mallory.keys.public[mallory.keys.kid])}
	for _, header := range []map[string]any{
		{"jwk": jwk}, {"jwk": jwk, "kid": b.keys.kid}, {"jku": "http://127.0.0.1:1/"}, {"x5u": "http://127.0.0.1:1/", "kid": b.keys.kid},
	} {
		b.refused(t, "a key brought along", mallory.sign(t, header, nil))
	}
}

func TestVerifier_RefusesLongInputWithoutSpendingMemory(t *testing.T) {
	// Not parallel: it measures what the whole process allocates.
	b := setup(t)
	inputs := []string{strings.Repeat(".", 1<<20), strings.Repeat("a", 1<<20), "a." + strings.Repeat("b", 1<<20) + ".c", strings.Repeat("a", rawBytesMax-1) + ".."}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, in := range inputs {
		b.refused(t, "long input", in)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 256<<10 {
		t.Errorf("refusing took %d bytes", got)
	}
}

func TestVerifier_GrantsLeewayFreshAndCached(t *testing.T) {
	t.Parallel()
	b := setup(t)
	raw := b.minter.Mint(Claims{User: user, Session: session, TTL: time.Minute})
	if _, err := b.verifier.Verify(raw); err != nil {
		t.Fatal(err)
	}
	other, err := NewVerifier(Config{Now: b.clock.now}, b.keys)
	if err != nil {
		t.Fatal(err)
	}
	both := func(what string, want error) {
		t.Helper()
		for name, v := range map[string]*Verifier{"cached": b.verifier, "fresh": other} {
			if _, err := v.verifyUncachedIf(name == "fresh", raw); !errors.Is(err, want) {
				t.Errorf("%s, %s: %v", what, name, err)
			}
		}
	}
	b.clock.add(time.Minute + 29*time.Second)
	both("29 s after", nil)
	b.clock.add(2 * time.Second)
	both("31 s after", ErrInvalid)
	b.clock.add(-10 * time.Second)
	if _, err := other.Verify(raw); err != nil {
		t.Errorf("the clock went back: %v", err)
	}
}

// verifyUncachedIf is Verify by a verifier that has just started.
func (v *Verifier) verifyUncachedIf(fresh bool, raw string) (Claims, error) {
	if fresh {
		v.trust.Load().cache.Purge()
	}
	return v.Verify(raw)
}

func TestVerifier_FollowsKeyRotation(t *testing.T) {
	t.Parallel()
	b := setup(t)
	old := b.minter.Mint(Claims{User: user, Session: session})
	next := freshKeys(t)
	overlap := Keys{kid: next.kid, private: next.private, public: maps.Clone(next.public), peer: next.peer}
	maps.Copy(overlap.public, b.keys.public)
	minter, err := NewMinter(Config{Now: b.clock.now}, overlap)
	if err != nil {
		t.Fatal(err)
	}
	fresh := minter.Mint(Claims{User: user, Session: session})
	b.refused(t, "a key not known yet", fresh)
	if err := b.verifier.SetKeys(overlap); err != nil {
		t.Fatal(err)
	}
	for _, raw := range []string{old, fresh} {
		if _, err := b.verifier.Verify(raw); err != nil {
			t.Errorf("within the overlap: %v", err)
		}
	}
	if err := b.verifier.SetKeys(next); err != nil {
		t.Fatal(err)
	}
	b.refused(t, "the old key after the overlap, though it was cached", old)
	if _, err := b.verifier.Verify(fresh); err != nil {
		t.Errorf("the new key after the overlap: %v", err)
	}
}

func TestVerifier_ForgetsBeyondItsBound(t *testing.T) {
	t.Parallel()
	b := setup(t)
	v, err := NewVerifier(Config{Now: b.clock.now, CacheEntries: 2}, b.keys)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := v.Verify(b.minter.Mint(Claims{User: user, Session: session})); err != nil {
			t.Fatal(err)
		}
	}
	if n := v.trust.Load().cache.Len(); n != 2 {
		t.Errorf("%d tokens are remembered, want 2", n)
	}
}

func TestVerifier_MayBeUsedAndRotatedAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	raw := b.minter.Mint(Claims{User: user, Session: session})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				if _, err := b.verifier.Verify(raw); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for range 50 {
			if err := b.verifier.SetKeys(b.keys); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
}

func TestMinter_RefusesToMintNonsense(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, c := range []Claims{{Session: session}, {User: user}, {User: user, Session: strings.Repeat("s", sidBytesMax+1)}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("minted %+v", c)
				}
			}()
			b.minter.Mint(c)
		}()
	}
}

func TestConfig_ValidateNamesEveryMistake(t *testing.T) {
	t.Parallel()
	if err := (Config{}).Validate(); err != nil {
		t.Error(err)
	}
	err := Config{TTL: -1, Leeway: time.Hour, CacheEntries: -1}.Validate()
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("got %v", err)
	}
	if _, err := NewVerifier(Config{}, Keys{}); err == nil {
		t.Error("a verifier without keys was made")
	}
	if _, err := NewMinter(Config{}, Keys{}); err == nil {
		t.Error("a minter without a key was made")
	}
}

func FuzzVerify(f *testing.F) {
	b := setup(f)
	f.Add(b.sign(f, nil, nil))
	bot, _ := NewBotToken(user)
	signer, err := NewSigner(b.keys, b.clock.now)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		"..", "...", bot, signer.Sign("203.0.113.7", "r", b.clock.now()), strings.Repeat(".", 100),
		b.signText(`{"alg":"none","typ":"at+jwt","kid":""}`, `{}`), b.signText(`{"alg":"EdDSA","alg":"none"}`, `[]`), b.sign(f, map[string]any{"kid": "../x"}, nil),
		b.sign(f, nil, map[string]any{"exp": json.Number("1e999")}), b.sign(f, map[string]any{"crit": []string{"b64"}}, map[string]any{"aud": []string{"a", "b"}}),
	} {
		f.Add(seed)
	}
	good := map[string]bool{b.sign(f, nil, nil): true}
	f.Fuzz(func(t *testing.T, raw string) {
		if c, err := b.verifier.Verify(raw); err == nil && !good[raw] {
			t.Errorf("%q is good for %+v", raw, c)
		}
		if who, ok := BotID(raw); ok && who == 0 {
			t.Errorf("%q is a token of nobody", raw)
		}
		_, _, _ = signer.Verify(raw) // enough that it comes back
	})
}

func BenchmarkVerify_Cached(bb *testing.B) {
	bb.ReportAllocs()
	b := setup(bb)
	raw := b.minter.Mint(Claims{User: user, Session: session})
	for bb.Loop() {
		if _, err := b.verifier.Verify(raw); err != nil {
			bb.Fatal(err)
		}
	}
}

func BenchmarkVerify_Fresh(bb *testing.B) {
	bb.ReportAllocs()
	b := setup(bb)
	raw := b.minter.Mint(Claims{User: user, Session: session})
	for bb.Loop() {
		if _, err := b.verifier.verifyUncachedIf(true, raw); err != nil {
			bb.Fatal(err)
		}
	}
}
