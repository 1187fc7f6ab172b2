package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// deskTimeout is for one request; the node does at most a thousand dead letters in one.
const deskTimeout = 2 * time.Minute

// desk is a node's private socket.
type desk struct {
	http   *http.Client
	socket string
}

func newDesk(socket string) *desk {
	var d net.Dialer
	return &desk{socket: socket, http: &http.Client{Timeout: deskTimeout, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", socket)
		},
	}}}
}

// ask sends a request and reads its answer into out.
func (d *desk) ask(ctx context.Context, method, path string, body, out any) error {
	var in io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("ask the node: %w", err)
		}
		in = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://xcord"+path, in)
	if err != nil {
		return fmt.Errorf("ask the node: %w", err)
	}
	resp, err := d.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask the node at %s (is it running, and is this its data directory or --admin-socket?): %w", d.socket, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		var failure struct {
			Error string `json:"error"`
		}
		_ = json.NewDecoder(resp.Body).Decode(&failure) // "" where the answer is not the desk's
		if failure.Error == "" {
			failure.Error = "it answers " + resp.Status + "; does it run the service that this is for?"
		}
		return errors.New(failure.Error)
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("read the node's answer: %w", err)
	}
	return nil
}
