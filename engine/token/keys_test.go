package token

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

func generated(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "keys")
	if err := Generate(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func load(t *testing.T, dir string, private bool) Keys {
	t.Helper()
	k, err := Load(dir, private)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestGenerate_MakesFilesThatOnlyTheOwnerCanRead(t *testing.T) {
	t.Parallel()
	dir := generated(t)
	want := map[string]fs.FileMode{"access-0001.key": 0o600, "access-0001.pub": 0o644, "peer.key": 0o600, "seal.key": 0o600}
	got := map[string]fs.FileMode{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		got[e.Name()] = info.Mode()
	}
	if !maps.Equal(want, got) {
		t.Errorf("got %v, want %v", got, want)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory is %v, %v", info.Mode(), err)
	}
}

func TestGenerate_KeepsWhatIsThere(t *testing.T) {
	t.Parallel()
	dir := generated(t)
	before := load(t, dir, true)
	if err := os.Remove(filepath.Join(dir, "access-0001.pub")); err != nil {
		t.Fatal(err)
	}
	if err := Generate(dir); err != nil {
		t.Fatal(err)
	}
	after := load(t, dir, true)
	if before.kid != after.kid || !bytes.Equal(before.peer, after.peer) || !before.private.Equal(after.private) {
		t.Error("the keys are other ones")
	}
	if len(load(t, dir, false).public) != 1 {
		t.Error("the lost public key did not come back")
	}
}

func TestGenerate_AtOnceMakesOneSetOfKeys(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "keys")
	var wg sync.WaitGroup
	kids := make([]string, 8)
	for i := range kids {
		wg.Go(func() {
			if err := Generate(dir); err != nil {
				t.Error(err)
				return
			}
			k, err := Load(dir, true)
			if err != nil {
				t.Error(err)
			}
			kids[i] = k.kid + hex.EncodeToString(k.peer)
		})
	}
	wg.Wait()
	if len(slices.Compact(kids)) != 1 {
		t.Errorf("got %d sets of keys", len(slices.Compact(kids)))
	}
}

func TestRotate_SignsWithTheNewKeyAndTrustsBoth(t *testing.T) {
	t.Parallel()
	dir := generated(t)
	old := load(t, dir, true)
	oldMinter, err := NewMinter(Config{}, old)
	if err != nil {
		t.Fatal(err)
	}
	kid, err := Rotate(dir)
	if err != nil {
		t.Fatal(err)
	}
	keys, public := load(t, dir, true), load(t, dir, false)
	if keys.kid == old.kid || keys.kid != kid || len(keys.public) != 2 || len(public.public) != 2 || public.private != nil {
		t.Fatalf("kid %s then %s, %d and %d public keys", old.kid, keys.kid, len(keys.public), len(public.public))
	}
	minter, err := NewMinter(Config{}, keys)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := NewVerifier(Config{}, public)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*Minter{oldMinter, minter} {
		if _, err := verifier.Verify(m.Mint(Claims{User: user, Session: session})); err != nil {
			t.Error(err)
		}
	}
	if _, err := NewMinter(Config{}, public); err == nil {
		t.Error("a minter was made of public keys")
	}
}

func TestLoad_RefusesWhatIsNotRight(t *testing.T) {
	t.Parallel()
	f := func(what string, private bool, spoil func(dir string) error, says string) {
		t.Helper()
		dir := generated(t)
		if err := spoil(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(dir, private); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", what, err)
		}
	}
	in := func(name string, do func(path string) error) func(string) error {
		return func(dir string) error { return do(filepath.Join(dir, name)) }
	}
	write := func(content string) func(string) error {
		return func(path string) error { return os.WriteFile(path, []byte(content), 0o600) }
	}
	copyOf := func(from, to string) func(string) error {
		return func(dir string) error {
			b, err := os.ReadFile(filepath.Join(dir, from))
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, to), b, 0o600)
		}
	}
	f("private key for all", true, in("access-0001.key", func(p string) error { return os.Chmod(p, 0o644) }), "0644")
	f("peer key for the group", false, in("peer.key", func(p string) error { return os.Chmod(p, 0o640) }), "0640")
	f("no private key", true, in("access-0001.key", os.Remove), "no private key")
	f("seal key for the group", true, in("seal.key", func(p string) error { return os.Chmod(p, 0o640) }), "0640")
	f("no seal key", true, in("seal.key", os.Remove), "seal.key")
	f("no peer key", false, in("peer.key", os.Remove), "peer.key")
	f("no PEM", true, in("access-0001.key", write("x")), "holds no PRIVATE KEY")
	f("a private key as a public one", false, copyOf("access-0001.key", "access-0002.pub"), "holds no PUBLIC KEY")
	f("a peer key as a private one", true, copyOf("peer.key", "access-0002.key"), "holds no PRIVATE KEY")
	f("short peer key", false, in("peer.key", write("-----BEGIN XCORD PEER KEY-----\nAAAA\n-----END XCORD PEER KEY-----\n")), "3 bytes")
	f("no directory", false, os.RemoveAll, "keys directory")
}

func TestKeys_PrintAsSecret(t *testing.T) {
	t.Parallel()
	keys := freshKeys(t)
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("start", "keys", keys)
	for _, s := range []string{fmt.Sprint(keys), fmt.Sprintf("%+v", keys), fmt.Sprintf("%#v", &keys), fmt.Sprintf("%x", keys), log.String()} {
		if !strings.Contains(s, "[secret]") || strings.Contains(s, keys.kid) || strings.Contains(s, hex.EncodeToString(keys.peer)) {
			t.Errorf("printed %s", s)
		}
	}
}
