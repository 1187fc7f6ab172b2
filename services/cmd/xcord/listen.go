package main

import (
	"context"
	"encoding/json"
	"io"

	"github.com/xcord/xcord/engine/client"
	"github.com/xcord/xcord/engine/conf"
)

// listen is a client that only looks: it shows what a bot or a browser would get.
type listen struct {
	URL   string      `default:"http://127.0.0.1:8080" env:"XCORD_LISTEN_URL" help:"Where the server is."`
	Token conf.Secret `env:"XCORD_TOKEN" help:"Who listens: an access token, or \"Bot\" and a bot's token."`
}

// line is one event.
type line struct {
	Type string          `json:"t"`
	Seq  int64           `json:"s"`
	Data json.RawMessage `json:"d"`
}

// run prints events until ctx ends or the session does.
func (l *listen) run(ctx context.Context, out io.Writer) error {
	c, err := client.New(client.Config{URL: l.URL, Token: l.Token.Reveal()})
	if err != nil {
		return err
	}
	g, err := c.Connect(ctx, client.GatewayConfig{})
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer g.Close()
	lines := json.NewEncoder(out)
	for {
		select {
		case <-ctx.Done():
			return nil
		case d, ok := <-g.Events():
			if !ok {
				return g.Err()
			}
			if err := lines.Encode(line{Type: d.Type, Seq: d.Seq, Data: d.Raw}); err != nil {
				return err
			}
		}
	}
}
