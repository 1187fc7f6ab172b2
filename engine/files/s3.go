package files

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	// s3Tries is how often a request is made that failed by no fault of its own. Each of them changes nothing when it is repeated.
	s3Tries = 3
	// s3ErrorMax is how much of an answer is read for its cause.
	s3ErrorMax = 4 << 10
	// s3Wait bounds the wait for the head of an answer.
	s3Wait = 30 * time.Second

	emptySum = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

// S3Config says where a bucket is and who may use it.
type S3Config struct {
	URL    string // https://host[:port]/bucket, with a prefix for the keys behind it if there is to be one
	Region string // default us-east-1, which most storage that is not Amazon's takes
	Key    string
	Secret string
}

// Validate names every mistake at once.
func (c S3Config) Validate() error {
	var errs []error
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") == "" || u.RawQuery != "" || u.User != nil {
		errs = append(errs, fmt.Errorf("%q is no http(s)://host/bucket", c.URL))
	}
	if c.Key == "" || c.Secret == "" {
		errs = append(errs, errors.New("S3 storage needs a key and a secret"))
	}
	return errors.Join(errs...)
}

// S3 is a Store in a bucket of S3-compatible storage. A request is signed as a whole, its body too, so that what arrives is what was
// sent (AWS Signature Version 4).
type S3 struct {
	config S3Config
	signer *v4.Signer
	http   *http.Client
	now    func() time.Time
}

// OpenS3 makes a Store of a bucket. It does no I/O.
func OpenS3(config S3Config) (*S3, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if config.Region == "" {
		config.Region = "us-east-1"
	}
	config.URL = strings.TrimRight(config.URL, "/")
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = s3Wait
	transport.DisableCompression = true
	transport.MaxIdleConnsPerHost = 16
	return &S3{
		config: config,
		signer: v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }), // as S3 alone has it
		http: &http.Client{
			Transport: transport,
			// A signature is for one address.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		now: time.Now,
	}, nil
}

// Close lets go of connections that nobody uses.
func (s *S3) Close() { s.http.CloseIdleConnections() }

// Put implements Store.
func (s *S3) Put(ctx context.Context, key, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("put a file: %w", err)
	}
	defer func() { _ = f.Close() }() // nothing was written
	sum := sha256.New()
	size, err := io.Copy(sum, f)
	if err != nil {
		return fmt.Errorf("put a file: %w", err)
	}
	return s.do(ctx, "put", key, func(ctx context.Context, url string) (*http.Request, string, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, url, io.NewSectionReader(f, 0, size))
		if err == nil {
			req.ContentLength = size
			if size == 0 {
				req.Body = http.NoBody // else it would be sent without a length
			}
		}
		return req, hex.EncodeToString(sum.Sum(nil)), err
	}, nil)
}

// Open implements Store.
func (s *S3) Open(ctx context.Context, key string, from, n int64) (io.ReadCloser, error) {
	if n == 0 {
		return http.NoBody, nil // a range has at least one byte
	}
	var body io.ReadCloser
	err := s.do(ctx, "open", key, func(ctx context.Context, url string) (*http.Request, string, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err == nil {
			req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, from+n-1))
		}
		return req, emptySum, err
	}, func(resp *http.Response) { body = section{io.LimitReader(resp.Body, n), resp.Body} })
	return body, err
}

// Delete implements Store.
func (s *S3) Delete(ctx context.Context, key string) error {
	err := s.do(ctx, "delete", key, func(ctx context.Context, url string) (*http.Request, string, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodDelete, url, http.NoBody)
		return req, emptySum, err
	}, nil)
	if errors.Is(err, ErrMissing) {
		return nil
	}
	return err
}

// Ping asks for a file that is not there: whether this key may use the bucket is known then.
func (s *S3) Ping(ctx context.Context) error {
	body, err := s.Open(ctx, strings.Repeat("a", keyBytes), 0, 1)
	if err == nil {
		return body.Close()
	}
	if errors.Is(err, ErrMissing) {
		return nil
	}
	return err
}

type makeRequest func(ctx context.Context, url string) (req *http.Request, sum string, err error)

// do makes a request until it is answered. The body of a good answer is taken's to close; nil is nobody.
func (s *S3) do(ctx context.Context, what, key string, request makeRequest, taken func(*http.Response)) error {
	if err := checkKey(key); err != nil {
		return err
	}
	for try := 1; ; try++ {
		again, err := s.try(ctx, s.config.URL+"/"+spread(key), request, taken)
		if err == nil {
			return nil
		}
		if !again || try == s3Tries || !sleep(ctx, 100*time.Millisecond<<try) {
			return fmt.Errorf("%s a file in S3 storage: %w", what, err)
		}
	}
}

// try makes a request once. again says that another time it may succeed.
func (s *S3) try(ctx context.Context, url string, request makeRequest, taken func(*http.Response)) (again bool, err error) {
	req, sum, err := request(ctx, url)
	if err != nil {
		return false, err
	}
	req.Header.Set("X-Amz-Content-Sha256", sum)
	who := aws.Credentials{AccessKeyID: s.config.Key, SecretAccessKey: s.config.Secret}
	if err := s.signer.SignHTTP(ctx, who, req, sum, "s3", s.config.Region, s.now()); err != nil {
		return false, err
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return true, err
	}
	if resp.StatusCode/100 == 2 && taken != nil {
		taken(resp)
		return false, nil
	}
	defer func() { _ = resp.Body.Close() }() // everything of it has been read that anybody wants
	cause, _ := io.ReadAll(io.LimitReader(resp.Body, s3ErrorMax))
	switch {
	case resp.StatusCode/100 == 2:
		return false, nil
	case resp.StatusCode == http.StatusNotFound && strings.Contains(string(cause), "NoSuchKey"):
		return false, ErrMissing
	}
	again = resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests
	return again, fmt.Errorf("%s: %.200q", resp.Status, cause)
}

// sleep waits for some time about d, and says whether it passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d/2 + rand.N(d))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
