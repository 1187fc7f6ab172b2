package auth

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// device is what a client says that it runs on: for its owner to recognise, and not to be relied on.
type device struct {
	os, platform string
}

// deviceTextMax is as much of it as a list of sessions can show.
const deviceTextMax = 64

// newDevice takes a client's properties before its User-Agent, which says less.
func newDevice(userAgent, properties string) device {
	var said struct {
		OS      string `json:"os"`
		Browser string `json:"browser"`
	}
	d := device{os: first(userAgent, systems), platform: first(userAgent, browsers)}
	if d.platform == "" {
		d.platform, _, _ = strings.Cut(userAgent, "/") // "curl/8.5.0"
	}
	if raw, err := base64.StdEncoding.DecodeString(properties); err == nil && json.Unmarshal(raw, &said) == nil {
		d.os, d.platform = or(said.OS, d.os), or(said.Browser, d.platform)
	}
	return device{os: showable(d.os), platform: showable(d.platform)}
}

// word is how a User-Agent is recognised. The order matters: most claim to be what came before them.
type word struct{ in, name string }

var (
	systems = []word{
		{"Android", "Android"}, {"iPhone", "iOS"}, {"iPad", "iOS"}, {"Windows", "Windows"}, {"Mac OS X", "macOS"}, {"CrOS", "ChromeOS"},
		{"Linux", "Linux"},
	}
	browsers = []word{
		{"Edg", "Edge"}, {"OPR/", "Opera"}, {"Firefox/", "Firefox"}, {"FxiOS/", "Firefox"}, {"Chrome/", "Chrome"}, {"CriOS/", "Chrome"},
		{"Safari/", "Safari"},
	}
)

func first(text string, words []word) string {
	for _, w := range words {
		if strings.Contains(text, w.in) {
			return w.name
		}
	}
	return ""
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// showable is a text that can be shown and stored, or nothing.
func showable(s string) string {
	if !utf8.ValidString(s) || utf8.RuneCountInString(s) > deviceTextMax || !printable(s) {
		return ""
	}
	return s
}
