package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/client"
	"github.com/xcord/xcord/engine/wire"
)

// TestJourney_AttachmentsReachEverybody: a file that one process has taken is told by another, to whoever reads the channel, with the
// address of the listener that clients see; it is served from there, and no more when its message is deleted.
func TestJourney_AttachmentsReachEverybody(t *testing.T) {
	t.Parallel()
	s := newScene(t, split(t))
	bobs := s.bob.connect(t, client.GatewayConfig{})

	said, served := s.attach(t, "note.txt", "text/plain", strings.Repeat("some text ", 200_000))
	if len(served.body) != 2_000_000 || string(served.body[1_999_990:]) != "some text " {
		t.Errorf("%d bytes are served", len(served.body))
	}
	told, ok := client.As[wire.Message](await(t, bobs, "MESSAGE_CREATE", nil), "MESSAGE_CREATE")
	if !ok || len(told.Attachments) != 1 {
		t.Fatalf("bob is told %+v", told)
	}
	s.served(t, told.Attachments[0].URL)
	want := s.url + "/attachments/" + s.other.String() + "/" + said.ID.String() + "/note.txt?ex="
	if !strings.HasPrefix(told.Attachments[0].URL, want) {
		t.Errorf("the address is %q, want %s…", told.Attachments[0].URL, want)
	}
	// The address that ada was told may be of the day before.
	for _, a := range []*wire.Attachment{&said, &told.Attachments[0]} {
		a.URL, a.ProxyURL = "", ""
	}
	if diff := cmp.Diff(said, told.Attachments[0]); diff != "" {
		t.Errorf("ada was answered something else: %s", diff)
	}

	m, err := s.bob.Message(t.Context(), s.other, told.ID)
	if err != nil || len(m.Attachments) != 1 {
		t.Fatalf("%+v, %v", m, err)
	}
	if err := s.ada.DeleteMessage(t.Context(), s.other, m.ID); err != nil {
		t.Fatal(err)
	}
	path := strings.TrimPrefix(m.Attachments[0].URL, s.url)
	eventually(t, func() error {
		if a := s.hail(t, s.url, "GET", path, ""); a.status != http.StatusNotFound {
			return fmt.Errorf("the file of a message that is deleted: %d", a.status)
		}
		return nil
	})
}
