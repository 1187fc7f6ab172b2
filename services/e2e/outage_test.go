package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/client"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/redis"
	"github.com/xcord/xcord/engine/wire"
	"github.com/xcord/xcord/services/node"
)

// journal is a node's log.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) count(line string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.text.String(), line)
}

// refusedPost posts once, without the patience of the client, and returns the Retry-After of a 503; 0 for any other answer.
func (p *person) refusedPost(t *testing.T, url string, channel id.ID) (status, retryAfter int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/api/v10/channels/"+channel.String()+"/messages",
		strings.NewReader(`{"content":"is anybody there?"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	req.Header.Set("Authorization", p.token)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Fatal(err)
	}
	retryAfter, _ = strconv.Atoi(res.Header.Get("Retry-After")) // 0 when it is missing
	return res.StatusCode, retryAfter
}

// TestOutage_OfRedisIsSurvivedBySockets: while Redis is away writes are refused at once, with when to come again, and the log says it
// once; sockets stay, and get what is posted when it is back.
func TestOutage_OfRedisIsSurvivedBySockets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.settings.Limits = "off"
	log := new(journal)
	w.node = node.New(&w.settings, slog.New(slog.NewTextHandler(log, nil)))
	if err := w.node.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.node.Stop)
	w.url = "http://" + w.node.Addr()
	admin := "http://" + w.node.AdminAddr()
	ada := w.register(t, "ada")
	_, channel := ada.guild(t, "first")
	g := ada.connect(t, client.GatewayConfig{URL: w.url})
	await(t, g, "GUILD_CREATE", nil)

	w.redis.Stop()
	for i := range 20 {
		if status, after := ada.refusedPost(t, w.url, channel); status != 503 || after < 1 || after > 5 {
			t.Errorf("post %d: %d, Retry-After %d", i, status, after)
		}
	}
	if status, body := get(t, admin+"/readyz"); status != 503 || !strings.Contains(body, "redis") {
		t.Errorf("readyz: %d %s", status, body)
	}
	if status, _ := get(t, admin+"/livez"); status != 200 {
		t.Errorf("livez: %d", status)
	}
	if _, metrics := get(t, admin+"/metrics"); strings.Contains(metrics, "xcord_bus_refused_total{cause=\"away\"} 0\n") {
		t.Error("the breaker never opened")
	}
	if n := log.count("requests are refused"); n != 1 {
		t.Errorf("the log says %d times that requests are refused", n)
	}
	heard := g.Stats().Acks
	if err := g.Send(wire.OpHeartbeat, g.Seq()); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if g.Stats().Acks == heard {
			return errors.New("the heartbeat is not answered")
		}
		return nil
	})

	if err := w.redis.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	last := ada.say(t, channel, "back again")
	await(t, g, "MESSAGE_CREATE", content(last.Content))
	if stats := g.Stats(); stats.Identifies != 1 || stats.Resumed != 0 {
		t.Errorf("the socket was lost: %+v", stats)
	}
	eventually(t, func() error {
		if status, body := get(t, admin+"/readyz"); status != 200 {
			return fmt.Errorf("readyz: %d %s", status, body)
		}
		return nil
	})
}

// TestResume_EndsWhereTheLogBegins: a gateway that knows nothing of a session counts it back in the log; when the log has been trimmed
// beyond it, the session begins anew, and nothing is passed over in silence.
func TestResume_EndsWhereTheLogBegins(t *testing.T) {
	t.Parallel()
	for name, isTrimmed := range map[string]bool{"whole": false, "trimmed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := single(t)
			ada, bob := w.register(t, "ada"), w.register(t, "bob")
			_, channel := ada.guild(t, "first")
			ada.invite(t, channel, bob)
			g := bob.connect(t, client.GatewayConfig{URL: w.url})
			await(t, g, "GUILD_CREATE", nil)
			state := g.Detach()
			var last id.ID
			for i := range 20 {
				last = ada.say(t, channel, fmt.Sprint(i)).ID
			}
			if isTrimmed {
				w.trim(t)
			}
			young := w.settings
			young.Services = []string{node.Gateway}
			young.UpstreamAuth, young.UpstreamGuilds, young.UpstreamMessaging = []string{w.node.Addr()}, []string{w.node.Addr()}, []string{w.node.Addr()}
			url := "http://" + w.start(t, young).Addr()
			g = bob.connect(t, client.GatewayConfig{URL: url, Resume: &state})
			if isTrimmed {
				if stats := g.Stats(); stats.Invalid != 1 || stats.Identifies != 1 || stats.Resumed != 0 {
					t.Errorf("beyond the log: %+v", stats)
				}
				return
			}
			if messages, _ := read(t, g, last); len(messages) != 20 || g.Stats().Identifies != 0 {
				t.Errorf("within the log: %d messages, %+v", len(messages), g.Stats())
			}
		})
	}
}

// trim leaves of the log only what is not stored yet, as it is done when memory is short, and returns when nearly all is gone.
func (w *world) trim(t *testing.T) {
	t.Helper()
	conn, err := redis.Open(t.Context(), redis.Config{URL: w.redis.URL()})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	log := bus.Open(conn, bus.Config{Retain: time.Nanosecond})
	last, err := log.Last(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if _, err := log.Trim(t.Context(), time.Now().Add(time.Minute)); err != nil {
			return err
		}
		entries, _, err := log.ReadBack(t.Context(), bus.Position{}, last, 3)
		if len(entries) > 2 {
			return errors.New("it is not stored yet")
		}
		return err
	})
}
