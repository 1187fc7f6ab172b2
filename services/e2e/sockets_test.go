package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"

	"github.com/xcord/xcord/engine/wire"
	"github.com/xcord/xcord/services/node"
)

// TestSockets_AreKnownOnEveryGateway: the tool shows which sockets a user has on two gateways, asking one of them.
func TestSockets_AreKnownOnEveryGateway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir, err := os.MkdirTemp("", "xcord-sockets-") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // what stays is in the way of nobody
	w.settings.AdminSocket = filepath.Join(dir, "admin.sock")
	w.node = w.start(t, w.settings)
	w.url = "http://" + w.node.Addr()
	second := w.settings
	second.AdminSocket, second.Services = filepath.Join(dir, "second.sock"), []string{node.Gateway}
	second.UpstreamAuth, second.UpstreamGuilds, second.UpstreamMessaging = []string{w.node.Addr()}, []string{w.node.Addr()}, []string{w.node.Addr()}
	other := &world{url: "http://" + w.start(t, second).Addr()}

	tool := func(args ...string) string {
		t.Helper()
		r := launch(t, []string{"XCORD_ADMIN_SOCKET=" + second.AdminSocket}, append([]string{"sockets"}, args...)...)
		if code := r.exit(t); code != 0 {
			t.Fatalf("ended with %d: %s%s", code, r.out.String(), r.err.String())
		}
		return r.out.String()
	}
	began := time.Now().Add(-time.Second)
	ada := w.register(t, "ada")
	here, one := w.identified(t, ada.token)
	_, two := other.identified(t, ada.token)
	var list []wire.UserSocket
	eventually(t, func() error { // a session is told of after it has begun
		if err := json.Unmarshal([]byte(tool(ada.id.String(), "--json")), &list); err != nil || len(list) != 2 {
			return fmt.Errorf("got %+v, %v", list, err)
		}
		return nil
	})
	if list[0].SessionID != one.SessionID || list[1].SessionID != two.SessionID || list[0].Gateway == list[1].Gateway || list[0].Gateway == "" ||
		list[0].Status != "online" || list[0].Since.Time().Before(began) || list[1].Since < list[0].Since {
		t.Errorf("got %+v", list)
	}
	if err := here.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if out := tool(ada.id.String()); strings.Contains(out, one.SessionID) || !strings.Contains(out, two.SessionID) {
			return fmt.Errorf("got %s", out)
		}
		return nil
	})
	r := launch(t, []string{"XCORD_ADMIN_SOCKET=" + second.AdminSocket}, "sockets", "nobody")
	if code := r.exit(t); code != 1 || !strings.Contains(r.err.String(), "no id of a user") {
		t.Errorf("ended with %d: %s", code, r.err.String())
	}
}
