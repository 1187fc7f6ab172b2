package files

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	bucketKey    = "AKIDEXAMPLE"
	bucketSecret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	bucketPath   = "/bucket/some prefix"
)

// bucket is S3 storage as far as a Store needs it. It computes the signature of each request by itself, from what has arrived.
type bucket struct {
	mu     sync.Mutex
	files  map[string][]byte
	fails  atomic.Int64 // how many of the next requests are answered 503
	served atomic.Int64
}

func (b *bucket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.served.Add(1)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // cut off
	}
	if b.fails.Add(-1) >= 0 {
		http.Error(w, "<Code>SlowDown</Code>", http.StatusServiceUnavailable)
		return
	}
	if why := forged(r, body); why != "" {
		http.Error(w, "<Code>SignatureDoesNotMatch</Code>"+why, http.StatusForbidden)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	content, ok := b.files[r.URL.Path]
	switch {
	case !strings.HasPrefix(r.URL.Path, bucketPath+"/"):
		http.Error(w, "<Code>NoSuchBucket</Code>", http.StatusNotFound)
	case r.Method == http.MethodPut:
		b.files[r.URL.Path] = body
	case !ok:
		http.Error(w, "<Code>NoSuchKey</Code>", http.StatusNotFound)
	case r.Method == http.MethodDelete:
		delete(b.files, r.URL.Path)
		w.WriteHeader(http.StatusNoContent)
	default:
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}
}

// forged says what is wrong with the signature of a request, by the description of AWS Signature Version 4.
func forged(r *http.Request, body []byte) string {
	sum := sha256.Sum256(body)
	if got := r.Header.Get("X-Amz-Content-Sha256"); got != hex.EncodeToString(sum[:]) {
		return "the body is another one"
	}
	var scope, signed, signature string
	said := strings.NewReplacer("AWS4-HMAC-SHA256 Credential=", "", " SignedHeaders=", "", " Signature=", "").Replace(r.Header.Get("Authorization"))
	if parts := strings.Split(said, ","); len(parts) == 3 {
		scope, signed, signature = parts[0], parts[1], parts[2]
	}
	names := strings.Split(signed, ";")
	for _, must := range []string{"host", "x-amz-content-sha256", "x-amz-date"} {
		if !slices.Contains(names, must) {
			return must + " is not signed"
		}
	}
	var head strings.Builder
	for _, name := range names {
		value := r.Header.Get(name)
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = fmt.Sprint(r.ContentLength)
		}
		fmt.Fprintf(&head, "%s:%s\n", name, strings.TrimSpace(value))
	}
	canonical := strings.Join([]string{
		r.Method, r.URL.EscapedPath(), r.URL.RawQuery, head.String(), signed, r.Header.Get("X-Amz-Content-Sha256"),
	}, "\n")
	date := r.Header.Get("X-Amz-Date")
	canonicalSum := sha256.Sum256([]byte(canonical))
	place := date[:8] + "/eu-test-1/s3/aws4_request"
	if scope != bucketKey+"/"+place {
		return "for another place"
	}
	key := []byte("AWS4" + bucketSecret)
	for step := range strings.SplitSeq(place, "/") {
		key = mac(key, step)
	}
	want := mac(key, "AWS4-HMAC-SHA256\n"+date+"\n"+place+"\n"+hex.EncodeToString(canonicalSum[:]))
	if signature != hex.EncodeToString(want) {
		return "by another key"
	}
	return ""
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func openBucket(t *testing.T, change func(*S3Config)) (*S3, *bucket) {
	t.Helper()
	b := &bucket{files: map[string][]byte{}}
	server := httptest.NewServer(b)
	t.Cleanup(server.Close)
	config := S3Config{URL: server.URL + (&url.URL{Path: bucketPath}).EscapedPath(), Region: "eu-test-1", Key: bucketKey, Secret: bucketSecret}
	if change != nil {
		change(&config)
	}
	s, err := OpenS3(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, b
}

// stores are one of each kind.
func stores(t *testing.T) (all map[string]Store, dir string) {
	t.Helper()
	dir = t.TempDir()
	local, err := OpenLocal(dir)
	if err != nil {
		t.Fatal(err)
	}
	s3, _ := openBucket(t, nil)
	return map[string]Store{"local": local, "s3": s3}, dir
}

func spooled(t *testing.T, dir, text string) string {
	t.Helper()
	path := filepath.Join(dir, "upload")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestStore_KeepsWhatWasPut(t *testing.T) {
	t.Parallel()
	all, dir := stores(t)
	for name, s := range all {
		for _, text := range []string{"", "0123456789", strings.Repeat("long ", 1<<18)} {
			key, size := NewKey(), int64(len(text))
			if err := s.Put(t.Context(), key, spooled(t, dir, text)); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			f := func(from, n int64) {
				t.Helper()
				r, err := s.Open(t.Context(), key, from, n)
				if err != nil {
					t.Fatalf("%s: open %d+%d of %d: %v", name, from, n, size, err)
				}
				got, err := io.ReadAll(r)
				if err = errors.Join(err, r.Close()); err != nil || string(got) != text[from:from+n] {
					t.Errorf("%s: %d+%d of %d: %d bytes, %v", name, from, n, size, len(got), err)
				}
			}
			f(0, size)
			f(size/2, size-size/2)
			f(size/3, size/3)
			if err := errors.Join(s.Delete(t.Context(), key), s.Delete(t.Context(), key)); err != nil {
				t.Errorf("%s: deleted twice: %v", name, err)
			}
			if _, err := s.Open(t.Context(), key, 0, 1); !errors.Is(err, ErrMissing) {
				t.Errorf("%s: a file that was deleted: %v", name, err)
			}
		}
		if err := s.Ping(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStore_TakesNoPathForAKey(t *testing.T) {
	t.Parallel()
	all, dir := stores(t)
	for name, s := range all {
		for _, key := range []string{"", "a", "../../../../../etc/passwd0", strings.Repeat("a", 25) + "/", strings.Repeat("A", 26), strings.Repeat("a", 27)} {
			_, errOpen := s.Open(t.Context(), key, 0, 1)
			for _, err := range []error{s.Put(t.Context(), key, spooled(t, dir, "x")), errOpen, s.Delete(t.Context(), key)} {
				if err == nil || errors.Is(err, ErrMissing) {
					t.Errorf("%s: %q: %v", name, key, err)
				}
			}
		}
	}
}

func TestLocal_IsForItsOwnerAlone(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "files")
	l, err := OpenLocal(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Put(t.Context(), NewKey(), spooled(t, t.TempDir(), "x")); err != nil {
		t.Fatal(err)
	}
	seen := 0
	err = filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v", path, info.Mode())
		}
		seen++
		return err
	})
	if err != nil || seen != 4 {
		t.Errorf("%d entries, %v", seen, err)
	}
}

func TestS3_IsRefusedWithAnotherKey(t *testing.T) {
	t.Parallel()
	for what, change := range map[string]func(*S3Config){
		"secret": func(c *S3Config) { c.Secret = "other" },
		"key":    func(c *S3Config) { c.Key = "other" },
		"region": func(c *S3Config) { c.Region = "" },
		"bucket": func(c *S3Config) { c.URL = strings.Replace(c.URL, "bucket", "nobodys", 1) },
	} {
		s, _ := openBucket(t, change)
		if err := s.Ping(t.Context()); err == nil || errors.Is(err, ErrMissing) {
			t.Errorf("another %s: %v", what, err)
		}
		if err := s.Put(t.Context(), NewKey(), spooled(t, t.TempDir(), "x")); err == nil {
			t.Errorf("another %s: put", what)
		}
	}
}

func TestS3_TriesAgainWhatMaySucceed(t *testing.T) {
	t.Parallel()
	s, b := openBucket(t, nil)
	key := NewKey()
	b.fails.Store(s3Tries - 1)
	if err := s.Put(t.Context(), key, spooled(t, t.TempDir(), "text")); err != nil {
		t.Fatal(err)
	}
	b.fails.Store(s3Tries - 1)
	r, err := s.Open(t.Context(), key, 0, 4)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); string(got) != "text" || err != nil || r.Close() != nil {
		t.Errorf("%q, %v", got, err)
	}
	b.fails.Store(1 << 20)
	before := b.served.Load()
	if err := s.Delete(t.Context(), key); err == nil || b.served.Load()-before != s3Tries {
		t.Errorf("%d tries: %v", b.served.Load()-before, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Ping(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestSpool_RemovesWhatACrashHasLeft(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "spool")
	if err := Spool(dir); err != nil {
		t.Fatal(err)
	}
	old, fresh := filepath.Join(dir, "upload-1"), filepath.Join(dir, "upload-2")
	for _, path := range []string{old, fresh} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	then := time.Now().Add(-2 * time.Hour)
	if err := errors.Join(os.Chtimes(old, then, then), Spool(dir)); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 || left[0].Name() != "upload-2" {
		t.Errorf("%v, %v", left, err)
	}
}
