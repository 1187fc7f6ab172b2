package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/xcord/xcord/engine/child"
)

// A bare server is another process of this binary, so that its CPU is its own. The variable says what it is and its address.
const bareEnv = "XCORD_BENCH_BARE"

// startBare runs a bare server until the benchmark ends.
func startBare(b *testing.B, what, args string) (addr string, pid int) {
	b.Helper()
	addr = freePort(b)
	log, err := os.Create(filepath.Join(b.TempDir(), what+".log"))
	check(b, err)
	b.Cleanup(func() { _ = log.Close() })
	env := fmt.Sprintf("%s=%s %s %s", bareEnv, what, addr, args)
	p, err := child.Start(child.Spec{Path: os.Args[0], Env: []string{env}, Output: log, Orphan: syscall.SIGKILL})
	check(b, err)
	b.Cleanup(func() { p.Stop(nil) })
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if conn, err := net.Dial("tcp", addr); err == nil {
			_ = conn.Close()
			return addr, p.Pid()
		}
		select {
		case <-p.Done():
			said, _ := os.ReadFile(log.Name())
			b.Fatalf("the bare %s has ended: %v\n%s", what, p.Err(), said)
		case <-tick.C:
		}
	}
}

func serveBare(env string) error {
	var what, addr string
	var frame, frames int
	if n, err := fmt.Sscan(env, &what, &addr, &frame, &frames); n < 2 {
		return fmt.Errorf("%s=%q: %w", bareEnv, env, err)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	if what == "http" {
		server := fasthttp.Server{Handler: answerBare, NoDefaultServerHeader: true}
		return server.Serve(l)
	}
	return relayBare(l, frame, frames)
}

// answerBare reads a message and answers it, and does nothing else.
func answerBare(ctx *fasthttp.RequestCtx) {
	var in struct {
		Content string `json:"content"`
	}
	if err := json.Unmarshal(ctx.PostBody(), &in); err != nil {
		ctx.Error(err.Error(), fasthttp.StatusBadRequest)
		return
	}
	type user struct {
		ID         string `json:"id"`
		Username   string `json:"username"`
		GlobalName string `json:"global_name"`
	}
	out, err := json.Marshal(struct {
		ID        string    `json:"id"`
		ChannelID string    `json:"channel_id"`
		Author    user      `json:"author"`
		Content   string    `json:"content"`
		Timestamp time.Time `json:"timestamp"`
		Mentions  []user    `json:"mentions"`
	}{"1234567890123456789", "1234567890123456789", user{"1234567890123456789", "bench", "bench"}, in.Content, time.Now(), []user{}})
	if err != nil {
		panic("BUG: " + err.Error())
	}
	ctx.SetContentType("application/json")
	ctx.SetBody(out)
}

// What a connection says first to the relay: that it wants all frames, or that it sends them. It is answered with the same.
const (
	relayReceive = "r"
	relaySend    = "s"
)

// relayBare is the bare loop: it writes what comes from a sender to every receiver, one after the other, at least one frame
// and at most so many in one write.
func relayBare(l net.Listener, frame, frames int) error {
	var mu sync.Mutex
	var receivers []net.Conn
	serve := func(conn net.Conn) {
		role := make([]byte, 1)
		if _, err := io.ReadFull(conn, role); err != nil {
			return // a look whether we are there
		}
		mu.Lock()
		if string(role) == relayReceive {
			receivers = append(receivers, conn)
		}
		all := receivers
		mu.Unlock()
		if _, err := conn.Write(role); err != nil || string(role) == relayReceive {
			return
		}
		buf := make([]byte, frame*frames)
		for {
			n, err := io.ReadAtLeast(conn, buf, frame)
			if err != nil {
				return // the load is over
			}
			for _, r := range all {
				if _, err := r.Write(buf[:n]); err != nil {
					return // and so is this; the load misses the delivery
				}
			}
		}
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go serve(conn) // until this process is killed
	}
}

// dialRelay opens a connection for a role.
func dialRelay(b *testing.B, addr, role string) net.Conn {
	b.Helper()
	conn, err := net.Dial("tcp", addr)
	check(b, err)
	b.Cleanup(func() { _ = conn.Close() })
	_, err = io.Copy(conn, strings.NewReader(role))
	check(b, err)
	_, err = io.ReadFull(conn, make([]byte, len(role)))
	check(b, err)
	return conn
}
