package wire

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/bwmarrin/discordgo"
)

func TestCommands_RefuseWhatIsNoPresence(t *testing.T) {
	t.Parallel()
	c := NewCommands()
	f := func(in string, ok bool) {
		t.Helper()
		if err := c.Read([]byte(in), new(PresenceUpdate)); (err == nil) != ok {
			t.Errorf("%s: %v", in, err)
		}
	}
	long := strings.Repeat("ö", 128)
	f(`{}`, true)
	f(`{"since":null,"activities":null,"status":null,"afk":null,"game":{"name":5}}`, true)
	f(`{"since":0.5,"activities":[{"name":"x","type":0,"created_at":"0001-01-01T00:00:00Z","emoji":{"id":"","name":""}}],"status":"","afk":true}`, true)
	f(`{"activities":[{"name":"`+long+`","details":"`+long+`","state":"`+long+`","party":{"size":[1,2]},"buttons":["a","b"]}]}`, true)
	f(`{"activities":[`+strings.Repeat(`{"name":"x"},`, 7)+`{"name":"x"}]}`, true)

	f(`null`, false)
	f(``, false)
	f(`[]`, false)
	f(`{"status":"asleep"}`, false)
	f(`{"status":1}`, false)
	f(`{"afk":"no"}`, false)
	f(`{"since":"now"}`, false)
	f(`{"activities":{}}`, false)
	f(`{"activities":["x"]}`, false)
	f(`{"activities":[{"type":0}]}`, false)
	f(`{"activities":[{"name":"x","type":6}]}`, false)
	f(`{"activities":[{"name":"x","type":-1}]}`, false)
	f(`{"activities":[{"name":"`+long+`x"}]}`, false)
	f(`{"activities":[{"name":"x","state":"`+long+`x"}]}`, false)
	f(`{"activities":[{"name":"x","emoji":{"name":"e","id":"x"}}]}`, false)
	f(`{"activities":[{"name":"x","buttons":["a","b","c"]}]}`, false)
	f(`{"activities":[`+strings.Repeat(`{"name":"x"},`, 8)+`{"name":"x"}]}`, false)
}

func TestPresenceUpdate_SettlesWhatOthersSee(t *testing.T) {
	t.Parallel()
	var p PresenceUpdate
	in := `{"activities":[{"name":"x","type":0,"url":"https://x","created_at":5,"emoji":{"id":""}},{"name":"y","type":1,"url":"https://y","emoji":{"name":"e","id":"7"}}]}`
	if err := NewCommands().Read([]byte(in), &p); err != nil {
		t.Fatal(err)
	}
	p.Settle([]Activity{{Name: "z", CreatedAt: 1}, {Name: "x", CreatedAt: 3}}, time.UnixMilli(9))
	got, err := json.Marshal(p.Activities)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "activities", string(got), `[{"name":"x","type":0,"created_at":3},{"name":"y","type":1,"url":"https://y","created_at":9,"emoji":{"name":"e","id":"7"}}]`)
}

func TestIdentifyProperties_SayWhichClientItIs(t *testing.T) {
	t.Parallel()
	for browser, kind := range map[string]string{
		"": ClientWeb, "Firefox": ClientWeb, "discordgo": ClientWeb, "axios": ClientWeb, "Chat iOS": ClientMobile, "Chat Android": ClientMobile,
		"Chat Client": ClientDesktop, "xcord-desktop": ClientDesktop,
	} {
		want(t, browser, IdentifyProperties{Browser: browser, OS: "Android"}.Client(), kind)
	}
}

// TestDiscordgo_SaysAndReadsPresences: what a widely used library sends and expects.
func TestDiscordgo_SaysAndReadsPresences(t *testing.T) {
	t.Parallel()
	var p PresenceUpdate
	sent := mustJSON(t, discordgo.UpdateStatusData{Status: "idle", Activities: []*discordgo.Activity{{Name: "chess", Type: discordgo.ActivityTypeGame}}})
	if err := NewCommands().Read(sent, &p); err != nil {
		t.Fatalf("%v\n%s", err, sent)
	}
	p.Settle(nil, time.UnixMilli(9000))
	got := decodeAs[discordgo.PresenceUpdate](t, Presence{
		User: UserRef{sampleID}, GuildID: sampleID, Status: p.Status, Activities: p.Activities, ClientStatus: map[string]string{ClientWeb: "idle"},
	})
	want(t, "status", got.Status, discordgo.StatusIdle)
	want(t, "activity", got.Activities[0].Name, "chess")
	want(t, "created", got.Activities[0].CreatedAt.UnixMilli(), 9000)
	want(t, "web", got.ClientStatus.Web, discordgo.StatusIdle)
}
