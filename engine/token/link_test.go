package token

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/xcord/xcord/engine/id"
)

func newLinks(t *testing.T, now *time.Time) *Links {
	t.Helper()
	l, err := NewLinks(freshKeys(t), func() string { return "https://chat.example/" }, func() time.Time { return *now })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLinks_AreGoodForOneToTwoDays(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 4, 23, 59, 59, 0, time.UTC)
	l := newLinks(t, &now)
	const stored = `{"attachments":[{"url":"/attachments/7/8/a%20b.png","proxy_url":"/attachments/7/8/a%20b.png","size":1}],"content":"x"}`
	shown := l.Show([]byte(stored))
	var m struct {
		Content     string
		Attachments []struct {
			URL      string `json:"url"`
			ProxyURL string `json:"proxy_url"`
		}
	}
	if err := json.Unmarshal(shown, &m); err != nil {
		t.Fatalf("%s: %v", shown, err)
	}
	a := m.Attachments[0]
	u, err := url.Parse(a.URL)
	if err != nil || a.URL != a.ProxyURL || u.Host != "chat.example" || u.Path != "/attachments/7/8/a b.png" || m.Content != "x" {
		t.Fatalf("%s: %v", shown, err)
	}
	ex, hm := u.Query().Get("ex"), u.Query().Get("hm")
	good := func(want bool, channel, attachment uint64, ex, hm string) {
		t.Helper()
		if got := l.Good(id.ID(channel), id.ID(attachment), ex, hm); got != want {
			t.Errorf("%d/%d %q %q at %v: %v", channel, attachment, ex, hm, now, got)
		}
	}
	good(true, 7, 8, ex, hm)
	good(false, 7, 9, ex, hm)
	good(false, 8, 8, ex, hm)
	good(false, 7, 8, ex+"0", hm)
	good(false, 7, 8, "", hm)
	good(false, 7, 8, ex, "")
	good(false, 7, 8, ex, hm[1:])
	now = now.Add(24 * time.Hour)
	good(true, 7, 8, ex, hm)
	now = now.Add(time.Second)
	good(false, 7, 8, ex, hm)
}

func TestLinks_AreTheSameAllDay(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 4, 0, 0, 0, 0, time.UTC)
	l := newLinks(t, &now)
	const stored = `{"url":"/attachments/7/8/a"}`
	first := string(l.Show([]byte(stored)))
	now = now.Add(24*time.Hour - time.Second)
	if got := string(l.Show([]byte(stored))); got != first {
		t.Errorf("%s, then %s", first, got)
	}
	now = now.Add(time.Second)
	if got := string(l.Show([]byte(stored))); got == first {
		t.Errorf("the next day: %s", got)
	}
}

// What people write can look like anything, and nothing of it becomes an address of ours.
func TestLinks_AreMadeOfNothingThatSomebodyWrote(t *testing.T) {
	t.Parallel()
	now := time.Now()
	l := newLinks(t, &now)
	text, err := json.Marshal(map[string]string{
		"content": `"url":"/attachments/7/8/a"`, "more": `url":"/attachments/7/8/a`, "back": `\"url":"/attachments/7/8/a\`,
		"url": "https://evil.example/attachments/7/8/a", "title": "/attachments/7/8/a",
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := l.Show(text); string(got) != string(text) || &got[0] != &text[0] {
		t.Errorf("%s", got)
	}
	for _, torn := range []string{`{"url":"/attachments/`, `"url":"/attachments/"`, `"url":"/attachments//"`, ``} {
		_ = l.Show([]byte(torn))
	}
}

func BenchmarkLinks_Show(b *testing.B) {
	now := time.Now()
	l := &Links{key: make([]byte, 32), base: func() string { return "https://chat.example" }, now: func() time.Time { return now }}
	plain := []byte(`{"type":0,"channel_id":"7","content":"` + strings.Repeat("text ", 80) + `","mentions":[],"attachments":[]}`)
	b.Run("without", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			_ = l.Show(plain)
		}
	})
	one := []byte(strings.Replace(string(plain), `[]}`, `[{"url":"/attachments/7/8/a.png","proxy_url":"/attachments/7/8/a.png"}]}`, 1))
	b.Run("with one", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			_ = l.Show(one)
		}
	})
}
