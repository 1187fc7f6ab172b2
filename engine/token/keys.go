package token

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// The directory: access-0001.key and access-0001.pub, access-0002.key …, peer.key and seal.key. Auth needs the newest
// .key and seal.key; everybody needs every .pub that may still be in use, and peer.key.
const (
	peerFile     = "peer.key"
	peerKeyBytes = 32
	fileBytesMax = 16 << 10 // a key has a few hundred

	privateBlock = "PRIVATE KEY"
	publicBlock  = "PUBLIC KEY"
	peerBlock    = "XCORD PEER KEY"
)

var accessFile = regexp.MustCompile(`^access-([0-9]{4,9})\.(key|pub)$`)

// Keys is the content of a keys directory. It prints as "[secret]".
type Keys struct {
	kid     string
	private ed25519.PrivateKey // to sign with; nil where only public keys are
	public  map[string]ed25519.PublicKey
	peer    []byte
	seal    []byte // nil where only public keys are
}

// Format keeps the keys out of whatever is printed.
func (Keys) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[secret]") }

// LogValue keeps the keys out of the log.
func (Keys) LogValue() slog.Value { return slog.StringValue("[secret]") }

// Generate makes what a fresh installation needs: the directory (0700), a first key pair,
// the key between services and the one that seals (0600). What is there already stays as it is, so it may be called
// at every start, and by several processes at once.
func Generate(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the keys directory: %w", err)
	}
	newest, err := newestKey(dir)
	if err != nil {
		return err
	}
	if newest == 0 {
		if err := addPair(dir, 1); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		newest = 1
	}
	if err := publish(dir, newest); err != nil {
		return err
	}
	if err := addSecret(dir, peerFile, peerBlock, peerKeyBytes); err != nil {
		return err
	}
	return addSecret(dir, sealFile, sealBlock, sealKeyBytes)
}

// addSecret makes a random key unless it is there.
func addSecret(dir, name, block string, n int) error {
	err := writeNew(dir, name, block, random(n), 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// Load reads a keys directory. With private, which is for auth alone, it also reads the
// newest private key and the one that seals. Secrets that others can read are refused.
func Load(dir string, private bool) (Keys, error) { return LoadSettled(dir, private, 0) }

// LoadSettled is Load, but signs with the newest private key that has been there for as long as settle (see Settle), if there
// is one.
func LoadSettled(dir string, private bool, settle time.Duration) (Keys, error) {
	keys := Keys{public: make(map[string]ed25519.PublicKey)}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return Keys{}, fmt.Errorf("read the keys directory: %w", err)
	}
	for _, e := range entries {
		if m := accessFile.FindStringSubmatch(e.Name()); m == nil || m[2] != "pub" {
			continue
		}
		pub, err := readPublic(filepath.Join(dir, e.Name()))
		if err != nil {
			return Keys{}, err
		}
		keys.public[keyID(pub)] = pub
	}
	if keys.peer, err = readSecret(dir, peerFile, peerBlock, peerKeyBytes); err != nil {
		return Keys{}, err
	}
	if !private {
		return keys, nil
	}
	if keys.seal, err = readSecret(dir, sealFile, sealBlock, sealKeyBytes); err != nil {
		return Keys{}, err
	}
	signs, err := signingKey(dir, settle)
	if err != nil {
		return Keys{}, err
	}
	if keys.private, err = readPrivate(keyPath(dir, signs, "key")); err != nil {
		return Keys{}, err
	}
	pub := keys.private.Public().(ed25519.PublicKey)
	keys.kid = keyID(pub)
	keys.public[keys.kid] = pub
	return keys, nil
}

// keyID names a public key by its own content, so that two keys never share a name.
func keyID(pub ed25519.PublicKey) string {
	sum := sha256.Sum256(pub)
	return hex.EncodeToString(sum[:8])
}

func keyPath(dir string, n int, ext string) string {
	return filepath.Join(dir, fmt.Sprintf("access-%04d.%s", n, ext))
}

// newestKey is the highest number of a private key, 0 if there is none.
func newestKey(dir string) (int, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, fmt.Errorf("read the keys directory: %w", err)
	}
	newest := 0
	for _, e := range entries {
		if m := accessFile.FindStringSubmatch(e.Name()); m != nil && m[2] == "key" {
			n, err := strconv.Atoi(m[1])
			if err != nil {
				return 0, fmt.Errorf("the number of %s: %w", e.Name(), err)
			}
			newest = max(newest, n)
		}
	}
	return newest, nil
}

func addPair(dir string, n int) error {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return fmt.Errorf("generate an access key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return fmt.Errorf("encode an access key: %w", err)
	}
	return writeNew(dir, filepath.Base(keyPath(dir, n, "key")), privateBlock, der, 0o600)
}

// publish writes the public half of a private key beside it, unless it is there.
func publish(dir string, n int) error {
	private, err := readPrivate(keyPath(dir, n, "key"))
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		return fmt.Errorf("encode a public key: %w", err)
	}
	err = writeNew(dir, filepath.Base(keyPath(dir, n, "pub")), publicBlock, der, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// writeNew writes a file that is whole or not there, also after a crash, and never replaces
// one: the error is then fs.ErrExist. The link at the end is what only one process can do.
func writeNew(dir, name, block string, content []byte, mode fs.FileMode) error {
	tmp, err := os.CreateTemp(dir, ".new-*") // 0600
	if err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // the link stays; of the rest nothing is needed
	_, err = tmp.Write(pem.EncodeToMemory(&pem.Block{Type: block, Bytes: content}))
	err = errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Link(tmp.Name(), filepath.Join(dir, name))
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func readPrivate(path string) (ed25519.PrivateKey, error) {
	der, err := readPEM(path, privateBlock, true)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("read %s: it is no Ed25519 key", path)
	}
	return private, nil
}

func readPublic(path string) (ed25519.PublicKey, error) {
	der, err := readPEM(path, publicBlock, false)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	public, ok := key.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("read %s: it is no Ed25519 key", path)
	}
	return public, nil
}

// readSecret reads a key that addSecret made.
func readSecret(dir, name, block string, n int) ([]byte, error) {
	key, err := readPEM(filepath.Join(dir, name), block, true)
	if err == nil && len(key) != n {
		err = fmt.Errorf("%s has %d bytes, not %d", name, len(key), n)
	}
	return key, err
}

// readPEM reads the one block of a file. A secret must be readable by its owner alone.
func readPEM(path, block string, secret bool) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read a key: %w", err)
	}
	defer func() { _ = f.Close() }() // nothing was written
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read a key: %w", err)
	}
	if secret && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %04o: others can use it; it must be 0600 or less", path, info.Mode().Perm())
	}
	b, err := io.ReadAll(io.LimitReader(f, fileBytesMax))
	if err != nil {
		return nil, fmt.Errorf("read a key: %w", err)
	}
	p, _ := pem.Decode(b)
	if p == nil || p.Type != block {
		return nil, fmt.Errorf("%s holds no %s", path, block)
	}
	return p.Bytes, nil
}
