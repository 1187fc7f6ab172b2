// Package redis opens Redis: a client with bounded waits, a check that the server is as durable as promised, and a private
// local server. It knows no keys, no streams and no functions: those are of engine/bus and its neighbours.
package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/redis/rueidis"
)

// Client is what Open makes. It has a name here so that those who only hand it on need not know whose it is.
type Client = rueidis.Client

// ErrClosed is the error of every call of a client after its Close.
var ErrClosed = rueidis.ErrClosing

// Config of a client. The zero value of everything but URL is the default.
type Config struct {
	// URL is redis://, rediss:// or unix://, with user and password. More nodes of a cluster: ?addr=host:port&addr=…
	URL string
	// Name is what CLIENT LIST shows. Default xcord.
	Name string
	// DialTimeout bounds connecting, with TLS and greeting. Default 2 s.
	DialTimeout time.Duration
	// WriteTimeout is how long an answer may take before the connection counts as dead. The default of 2 s is also how
	// long a Redis that is stopped can hold a caller without a deadline of its own.
	WriteTimeout time.Duration
	// BlockingConns bounds the connections for blocking commands, each 128 KiB of buffers. Default 32.
	BlockingConns int
	// OnDial is called with every new connection, before it is used: behind it may be another server than before. It must not block.
	OnDial func()
}

// openRetry: how often a server that is still loading is asked again.
const openRetry = 100 * time.Millisecond

func (c Config) withDefaults() Config {
	if c.Name == "" {
		c.Name = "xcord"
	}
	if c.DialTimeout == 0 {
		c.DialTimeout = 2 * time.Second
	}
	if c.WriteTimeout == 0 {
		c.WriteTimeout = 2 * time.Second
	}
	if c.BlockingConns == 0 {
		c.BlockingConns = 32
	}
	return c
}

// Validate names every mistake at once.
func (c Config) Validate() error {
	var errs []error
	if _, err := rueidis.ParseURL(c.URL); err != nil {
		errs = append(errs, errors.New("redis URL: want redis://, rediss:// or unix:// with a valid address")) // the cause may hold the password
	}
	if c.DialTimeout < 0 || c.WriteTimeout < 0 {
		errs = append(errs, errors.New("redis: timeouts must not be negative"))
	}
	if c.BlockingConns < 0 {
		errs = append(errs, errors.New("redis: BlockingConns must not be negative"))
	}
	return errors.Join(errs...)
}

// Open connects and returns when the server answers, or fails when ctx ends; a server that is loading its data is waited
// for. All commands of one client, but for blocking ones, go through one connection (per node) and so in one order.
func Open(ctx context.Context, cfg Config) (rueidis.Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	client, err := rueidis.NewClient(cfg.withDefaults().option())
	if err != nil {
		return nil, fmt.Errorf("open redis: %w", err)
	}
	for {
		err := client.Do(ctx, client.B().Ping().Build()).Error()
		if err == nil {
			return client, nil
		}
		if failure, ok := rueidis.IsRedisErr(err); !ok || !failure.IsLoading() {
			client.Close()
			return nil, fmt.Errorf("open redis: ping: %w", err)
		}
		select {
		case <-ctx.Done():
			client.Close()
			return nil, fmt.Errorf("open redis: wait until its data is loaded: %w", ctx.Err())
		case <-time.After(openRetry):
		}
	}
}

func (c Config) option() rueidis.ClientOption {
	opt, err := rueidis.ParseURL(c.URL)
	if err != nil {
		panic("BUG: redis: URL was not validated")
	}
	opt.ClientName = c.Name
	opt.Dialer.Timeout = c.DialTimeout
	opt.ConnWriteTimeout = c.WriteTimeout
	// One connection: with the default of four, picked at random, two publishes of one process have no order.
	opt.PipelineMultiplex = -1
	// The defaults are 0.5 MiB each way and 1024 blocking connections that are never closed.
	opt.ReadBufferEachConn, opt.WriteBufferEachConn = 64<<10, 64<<10
	opt.BlockingPoolSize = c.BlockingConns
	opt.BlockingPoolMinSize = 1
	opt.BlockingPoolCleanup = 5 * time.Minute
	// Client-side copies can be stale between a write and its invalidation; what we cache is invalidated by the log.
	opt.DisableCache = true
	// Without these a cluster client follows redirects until its context ends, and learns of a failover only by errors.
	opt.ClusterOption.MaxMovedRedirections = 8
	opt.ClusterOption.ShardsRefreshInterval = 15 * time.Second
	// A socket is one server; asking it for a cluster would only cost an error.
	opt.ForceSingleClient = opt.DialCtxFn != nil
	if c.OnDial != nil {
		opt.DialCtxFn = told(opt.DialCtxFn, c.OnDial)
	}
	return opt
}

// dialer is how the client connects.
type dialer = func(ctx context.Context, addr string, d *net.Dialer, t *tls.Config) (net.Conn, error)

// told is a dialer that tells of every connection; nil dials TCP, with TLS or without.
func told(dial dialer, tell func()) dialer {
	return func(ctx context.Context, addr string, d *net.Dialer, t *tls.Config) (conn net.Conn, err error) {
		switch {
		case dial != nil:
			conn, err = dial(ctx, addr, d, t)
		case t != nil:
			conn, err = (&tls.Dialer{NetDialer: d, Config: t}).DialContext(ctx, "tcp", addr)
		default:
			conn, err = d.DialContext(ctx, "tcp", addr)
		}
		if err == nil {
			tell()
		}
		return conn, err
	}
}

// RunID names the server process that a client talks to: after a restart it is another one. With a cluster it is that of one node.
func RunID(ctx context.Context, client Client) (string, error) {
	info, err := client.Do(ctx, client.B().Info().Section("server").Build()).ToString()
	if err != nil {
		return "", fmt.Errorf("ask for INFO: %w", err)
	}
	return infoField(info, "run_id"), nil
}
