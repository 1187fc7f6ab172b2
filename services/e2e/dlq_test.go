package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/services/messaging"
)

// socketPath is a place for an admin socket.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "xcord-") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // what stays is in the way of nobody
	return filepath.Join(dir, "admin.sock")
}

// The tool against a node: what Postgres refuses is listed, shown, replayed when the cause is mended, and dropped.
func TestDLQ_ListsShowsReplaysAndDrops(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.settings.AdminSocket = socketPath(t)
	w.node = w.start(t, w.settings)
	w.url = "http://" + w.node.Addr()
	if info, err := os.Stat(w.settings.AdminSocket); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the socket: %v, %v", info, err)
	}
	tool := func(want int, args ...string) string {
		t.Helper()
		r := launch(t, []string{"XCORD_ADMIN_SOCKET=" + w.settings.AdminSocket}, append([]string{"dlq"}, args...)...)
		if code := r.exit(t); code != want {
			t.Fatalf("dlq %v ended with %d: %s%s", args, code, r.out.String(), r.err.String())
		}
		return r.out.String() + r.err.String()
	}
	exec := func(sql string) {
		t.Helper()
		if _, err := w.pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	rows := func() (n int) {
		t.Helper()
		if err := w.pool.QueryRow(t.Context(), "SELECT count(*) FROM messages").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	ada := w.register(t, "ada")
	_, channel := ada.guild(t, "first")
	if got := tool(0, "ls"); !strings.Contains(got, "no dead letters") {
		t.Errorf("ls: %s", got)
	}
	exec("ALTER TABLE messages ADD CONSTRAINT sick CHECK (content NOT LIKE 'poison%')")
	var ids []string
	var messages []id.ID
	for i := range 4 {
		m := ada.say(t, channel, fmt.Sprint("poison ", i))
		messages = append(messages, m.ID)
		ids = append(ids, bus.PositionOf(m.ID).String())
	}
	ada.say(t, channel, "good")
	eventually(t, func() error {
		if rows() == 1 {
			return nil
		}
		return errors.New("the good one is not stored")
	})
	var page messaging.DeadPage
	if err := json.Unmarshal([]byte(tool(0, "ls", "--json", "--newer-than", "1h", "--error", "sick")), &page); err != nil {
		t.Fatal(err)
	}
	if len(page.Letters) != 4 || page.Letters[0].ID != ids[0] || page.Letters[0].Actor != ada.id {
		t.Fatalf("listed: %+v", page)
	}
	if got := tool(0, "ls", "--limit", "1"); !strings.Contains(got, ids[0]) || !strings.Contains(got, "--cursor "+ids[0]) || strings.Contains(got, ids[1]) {
		t.Errorf("ls: %s", got)
	}
	if got := tool(0, "ls", "--older-than", "1h"); strings.Contains(got, ids[0]) {
		t.Errorf("ls --older-than 1h: %s", got)
	}
	if got := tool(0, "show", ids[2]); !strings.Contains(got, "poison 2") || !strings.Contains(got, "sick") {
		t.Errorf("show: %s", got)
	}
	tool(1, "show", "1-1")
	tool(1, "replay")
	if got := tool(1, "replay", "--all"); !strings.Contains(got, "0 replayed") || !strings.Contains(got, ids[3]+" stays") {
		t.Errorf("vain replay: %s", got)
	}
	if got := tool(1, "drop", ids[3]); !strings.Contains(got, "--yes") || rows() != 1 {
		t.Errorf("drop: %s", got)
	}
	if m, err := ada.Message(t.Context(), channel, messages[3]); err != nil || m.Content != "poison 3" {
		t.Errorf("a dead letter is not to be read: %+v, %v", m, err)
	}
	if got := tool(0, "drop", ids[3], "--yes"); !strings.Contains(got, "1 dropped") {
		t.Errorf("drop: %s", got)
	}
	eventually(t, func() error { // the overlay has it until it has heard of the checkpoint
		if _, err := ada.Message(t.Context(), channel, messages[3]); err == nil {
			return errors.New("a dropped message is still there")
		}
		return nil
	})
	exec("ALTER TABLE messages DROP CONSTRAINT sick")
	if got := tool(0, "replay", ids[0]); !strings.Contains(got, "1 replayed") || rows() != 2 {
		t.Errorf("replay: %s", got)
	}
	if got := tool(1, "replay", ids[0]); !strings.Contains(got, "is no dead letter") || rows() != 2 {
		t.Errorf("second replay: %s", got)
	}
	if got := tool(0, "replay", "--all", "--type", "MESSAGE_SENT"); !strings.Contains(got, "2 replayed") || rows() != 4 {
		t.Errorf("replay --all: %s", got)
	}
	if got := tool(0, "ls"); !strings.Contains(got, "no dead letters") {
		t.Errorf("ls: %s", got)
	}
	var gauge string
	eventually(t, func() error {
		if _, gauge = get(t, "http://"+w.node.AdminAddr()+"/metrics"); !strings.Contains(gauge, `xcord_bus_dead_letters{group="pg"}`) {
			return errors.New("there is no gauge of dead letters")
		}
		return nil
	})
	for _, name := range []string{"xcord_bus_dead_letters_total ", "xcord_bus_dead_letters_replayed_total ", "xcord_bus_dead_letters_dropped_total ", "xcord_stream_lost_entries_total "} {
		if !strings.Contains(gauge, name) {
			t.Errorf("no metric %s", name)
		}
	}
}
