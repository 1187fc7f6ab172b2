// Package postgres opens Postgres: a pool with bounded waits, the schema's migrations, what an error means, ids from a
// sequence, and a private local server. It knows no table: the SQL of each is in the store.go of the service that owns it.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Pool is what Open makes. It has a name here so that those who only hand it on need not know whose it is.
type Pool = pgxpool.Pool

// Config of a pool. The zero value of everything but URL is the default. Who must not be starved by others' slow queries
// (the batched writer, say) opens a pool of its own.
type Config struct {
	// URL is postgres://user:password@host/database, or with ?host=/directory for a socket. A statement_timeout in it
	// wins over StatementTimeout.
	URL string
	// MaxConns bounds the pool. The default of 8 lets several pools and processes share a server's default of 100.
	MaxConns int
	// ConnectTimeout bounds one attempt to connect. Default 2 s.
	ConnectTimeout time.Duration
	// StatementTimeout is how long the server works on one statement. It should be a little below the contexts' deadlines:
	// a query that ends with its context costs the connection. Default 5 s; negative is none.
	StatementTimeout time.Duration
	// IdleInTransaction is when the server gives up on a client that holds locks and says nothing. Default 30 s.
	IdleInTransaction time.Duration
}

func (c Config) withDefaults() Config {
	if c.MaxConns == 0 {
		c.MaxConns = 8
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 2 * time.Second
	}
	if c.StatementTimeout == 0 {
		c.StatementTimeout = 5 * time.Second
	}
	if c.IdleInTransaction == 0 {
		c.IdleInTransaction = 30 * time.Second
	}
	return c
}

// Validate names every mistake at once.
func (c Config) Validate() error {
	var errs []error
	if _, err := pgxpool.ParseConfig(c.URL); err != nil || c.URL == "" {
		errs = append(errs, errors.New("postgres URL: want postgres://user:password@host/database")) // the cause may hold the password
	}
	if c.MaxConns < 0 {
		errs = append(errs, errors.New("postgres: MaxConns must not be negative"))
	}
	if c.ConnectTimeout < 0 || c.IdleInTransaction < 0 {
		errs = append(errs, errors.New("postgres: timeouts must not be negative"))
	}
	return errors.Join(errs...)
}

// Open makes a pool and returns when the server answers, or fails when ctx ends. Acquiring a connection waits until the
// caller's context ends: give one with a deadline (2 s is right for a request).
func Open(ctx context.Context, cfg Config) (*pgxpool.Pool, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	pc := cfg.withDefaults().pool()
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("open postgres: %w", err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("open postgres: ping: %w", err)
	}
	return pool, nil
}

func (c Config) pool() *pgxpool.Config {
	pc, err := pgxpool.ParseConfig(c.URL)
	if err != nil {
		panic("BUG: postgres: URL was not validated")
	}
	pc.MaxConns = int32(c.MaxConns)
	pc.MinIdleConns = 1 // the first request after a quiet time should not pay for scram
	pc.MaxConnLifetime = 30 * time.Minute
	pc.MaxConnLifetimeJitter = 5 * time.Minute
	pc.MaxConnIdleTime = 5 * time.Minute
	pc.HealthCheckPeriod = 30 * time.Second
	pc.PingTimeout = time.Second // the default is none
	pc.ConnConfig.ConnectTimeout = c.ConnectTimeout
	params := map[string]string{
		"application_name":                    "xcord",
		"timezone":                            "UTC",
		"idle_in_transaction_session_timeout": milliseconds(c.IdleInTransaction),
	}
	if c.StatementTimeout > 0 {
		params["statement_timeout"] = milliseconds(c.StatementTimeout)
	}
	maps.Copy(params, pc.ConnConfig.RuntimeParams) // the URL's own win
	pc.ConnConfig.RuntimeParams = params
	return pc
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
