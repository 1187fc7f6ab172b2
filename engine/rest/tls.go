package rest

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// TLS says where a server's certificate comes from: from files, or by ACME for its domains.
type TLS struct {
	CertFile, KeyFile string // PEM; looked at again when they change

	Domains   []string // certificates are asked for these names and no others
	CacheDir  string   // where certificates and the account's key are kept
	Directory string   // of the certificate authority; default Let's Encrypt
}

// Validate returns every mistake at once.
func (c *TLS) Validate() error {
	var errs []error
	if (c.CertFile == "") != (c.KeyFile == "") {
		errs = append(errs, errors.New("TLS needs both a certificate and its key"))
	}
	if (c.CertFile == "") == (len(c.Domains) == 0) {
		errs = append(errs, errors.New("TLS needs either a certificate or domains"))
	}
	if len(c.Domains) > 0 && c.CacheDir == "" {
		errs = append(errs, errors.New("TLS by ACME needs a directory for what it gets"))
	}
	return errors.Join(errs...)
}

// config makes what the listener needs. Certificates of files are read now, so that a mistake shows at the start.
func (c *TLS) config() (*tls.Config, error) {
	// fasthttp speaks nothing newer, so nothing newer is offered.
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	if len(c.Domains) > 0 {
		manager := &autocert.Manager{
			Prompt: autocert.AcceptTOS, HostPolicy: autocert.HostWhitelist(c.Domains...), Cache: autocert.DirCache(c.CacheDir),
			Client: &acme.Client{DirectoryURL: c.Directory},
		}
		cfg.GetCertificate = manager.GetCertificate
		cfg.NextProtos = append(cfg.NextProtos, acme.ALPNProto) // how the authority looks whether the name is ours
		return cfg, nil
	}
	pair := &pair{cert: c.CertFile, key: c.KeyFile}
	if _, err := pair.get(nil); err != nil {
		return nil, err
	}
	cfg.GetCertificate = pair.get
	return cfg, nil
}

// pairCheckEvery is how often files are looked at, at most.
const pairCheckEvery = time.Second

// pair is a certificate in files. While what is there cannot be used, the one before is.
type pair struct {
	cert, key string

	mu      sync.Mutex // guards what follows
	checked time.Time
	changed [2]time.Time
	loaded  *tls.Certificate
}

func (p *pair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.loaded != nil && time.Since(p.checked) < pairCheckEvery {
		return p.loaded, nil
	}
	p.checked = time.Now()
	if err := p.reload(); err != nil && p.loaded == nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	return p.loaded, nil
}

func (p *pair) reload() error {
	var changed [2]time.Time
	for i, path := range []string{p.cert, p.key} {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		changed[i] = info.ModTime()
	}
	if changed == p.changed {
		return nil
	}
	loaded, err := tls.LoadX509KeyPair(p.cert, p.key)
	if err != nil {
		return err // perhaps only one of the two has been written yet
	}
	p.loaded, p.changed = &loaded, changed
	return nil
}
