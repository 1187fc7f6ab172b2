package guilds

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/perm"
	"github.com/xcord/xcord/engine/roster"
	"github.com/xcord/xcord/engine/token"
	"github.com/xcord/xcord/engine/wire"
)

func newSealer(t testing.TB) *token.Sealer {
	t.Helper()
	dir := t.TempDir()
	if err := token.Generate(dir); err != nil {
		t.Fatal(err)
	}
	keys, err := token.Load(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := token.NewWebhookSealer(keys)
	if err != nil {
		t.Fatal(err)
	}
	return sealer
}

// hook makes a webhook of the owner's.
func (b *bundle) hook(channel any) wire.Webhook {
	b.t.Helper()
	return get[wire.Webhook](b, 200, owner, "POST", fmt.Sprintf("/channels/%s/webhooks", channel), `{"name":"hook"}`)
}

func TestWebhooks_AreMadeChangedAndDeleted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	text, all := b.channelOf(g.ID), path("/guilds/%s/webhooks", g.ID)
	made := get[wire.Webhook](b, 200, owner, "POST", "/channels/"+text+"/webhooks", `{"name":"  hook ","avatar":`+iconOf(4)+`}`)
	at := "/webhooks/" + made.ID.String()
	if made.Name != "hook" || len(made.Token) != 68 || made.Avatar == nil || made.User.ID != owner || made.ChannelID.String() != text ||
		made.GuildID != g.ID || made.Type != 1 || made.ApplicationID != 0 {
		t.Errorf("made %+v", made)
	}
	for _, from := range []string{all, "/channels/" + text + "/webhooks"} {
		if diff := cmp.Diff([]wire.Webhook{made}, get[[]wire.Webhook](b, 200, owner, "GET", from, "")); diff != "" {
			t.Errorf("%s: %s", from, diff)
		}
	}
	if diff := cmp.Diff(made, get[wire.Webhook](b, 200, owner, "GET", at, "")); diff != "" {
		t.Error(diff)
	}
	bare := made
	bare.User = nil
	if diff := cmp.Diff(bare, get[wire.Webhook](b, 200, 0, "GET", at+"/"+made.Token, "")); diff != "" {
		t.Error(diff)
	}
	n := b.version(g.ID)
	b.want(200, owner, "PATCH", at, `{"name":"hook"}`) // which it is
	if b.version(g.ID) != n {
		t.Error("what changes nothing is a change")
	}
	other := get[wire.Channel](b, 201, owner, "POST", path("/guilds/%s/channels", g.ID), `{"name":"other"}`)
	moved := get[wire.Webhook](b, 200, owner, "PATCH", at, fmt.Sprintf(`{"name":"moved","avatar":null,"channel_id":"%s"}`, other.ID))
	if moved.Name != "moved" || moved.Avatar != nil || moved.ChannelID != other.ID || moved.Token != made.Token {
		t.Errorf("moved %+v", moved)
	}
	stays := get[wire.Webhook](b, 200, 0, "PATCH", at+"/"+made.Token, `{"name":"by token","channel_id":"`+text+`"}`)
	if stays.Name != "by token" || stays.ChannelID != other.ID || stays.User != nil {
		t.Errorf("by its token %+v", stays)
	}
	b.want(204, 0, "DELETE", at+"/"+made.Token, "")
	b.want(10015, owner, "GET", at, "")
	b.want(10015, 0, "GET", at+"/"+made.Token, "")
	second := b.hook(text)
	b.want(204, owner, "DELETE", path("/webhooks/%s", second.ID), "")
	if left := b.want(200, owner, "GET", all, ""); string(left.body) != "[]" {
		t.Errorf("left %s", left)
	}
	var told []string
	for _, e := range b.contiguous(g.ID, b.version(g.ID)) {
		if bytes.Contains(e.Body, []byte(made.Token)) {
			t.Errorf("the log has the token: %s", e.Body)
		}
		if strings.HasPrefix(string(e.Type), "WEBHOOK") {
			var p wire.WebhookChangedPayload
			b.must(json.Unmarshal(e.Body, &p))
			told = append(told, fmt.Sprintf("%s %t %t", e.Type, e.Channel == other.ID, p.From.String() == text))
		}
	}
	want := []string{"WEBHOOK_CHANGED false false", "WEBHOOK_CHANGED true true", "WEBHOOK_CHANGED true false", "WEBHOOK_DELETED true false", "WEBHOOK_CHANGED false false",
		"WEBHOOK_DELETED false false"}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Error(diff)
	}
}

func TestWebhooks_AreForWhoManagesThem(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.join(g.ID, alice, mod)
	b.role(g.ID, 1, perm.ManageWebhooks, mod)
	text := b.channelOf(g.ID)
	url, all := "/channels/"+text+"/webhooks", path("/guilds/%s/webhooks", g.ID)
	hook := b.hook(text)
	at := path("/webhooks/%s", hook.ID)
	hidden := get[wire.Channel](b, 201, owner, "POST", path("/guilds/%s/channels", g.ID),
		fmt.Sprintf(`{"name":"hidden","permission_overwrites":[{"id":"%s","type":0,"deny":"%s"}]}`, g.ID, perm.ViewChannel))
	secret := b.hook(hidden.ID)
	for _, try := range [][2]string{{"GET", url}, {"POST", url}, {"GET", all}, {"GET", at}, {"PATCH", at}, {"DELETE", at}} {
		b.want(401, 0, try[0], try[1], `{"name":"x"}`)
		b.want(50013, alice, try[0], try[1], `{"name":"x"}`)
		if got := b.ask(stranger, try[0], try[1], `{"name":"x"}`); got.code != 50001 && got.code != 10004 {
			t.Errorf("a stranger gets %s", got)
		}
	}
	b.want(50001, mod, "GET", path("/webhooks/%s", secret.ID), "")
	b.want(50001, mod, "PATCH", at, fmt.Sprintf(`{"channel_id":"%s"}`, hidden.ID))
	if list := get[[]wire.Webhook](b, 200, mod, "GET", all, ""); len(list) != 1 || list[0].Token != hook.Token {
		t.Errorf("a moderator sees %+v", list)
	}
	for _, method := range []string{"GET", "PATCH", "DELETE"} {
		for _, wrong := range []string{"x", secret.Token, hook.Token + "x", hook.Token[1:]} {
			got := b.ask(owner, method, at+"/"+wrong, `{"name":"x"}`)
			if got.status != 401 || got.code != int(fault.InvalidWebhookToken) {
				t.Errorf("%s by the wrong token: %s", method, got)
			}
		}
		b.want(int(fault.UnknownWebhook), owner, method, path("/webhooks/%s/x", g.ID), `{"name":"x"}`)
		b.want(int(fault.UnknownWebhook), owner, method, path("/webhooks/%s", g.ID), `{"name":"x"}`)
	}
	b.want(50035, owner, "POST", url, `{}`)
	b.want(50035, owner, "POST", url, `{"name":"   "}`)
	b.want(50035, owner, "POST", url, `{"name":"`+strings.Repeat("x", 81)+`"}`)
	b.want(50035, owner, "POST", url, `{"name":"x","avatar":"https://example.org/a.png"}`)
	box := get[wire.Channel](b, 201, owner, "POST", path("/guilds/%s/channels", g.ID), `{"name":"box","type":4}`)
	b.want(50024, owner, "POST", path("/channels/%s/webhooks", box.ID), `{"name":"x"}`)
	b.want(50024, owner, "PATCH", at, fmt.Sprintf(`{"channel_id":"%s"}`, box.ID))
}

func TestWebhooks_HaveALimit(t *testing.T) {
	t.Parallel()
	b := setupWith(t, Config{WebhooksMax: 17})
	g := b.guild()
	text := b.channelOf(g.ID)
	var all sync.WaitGroup
	var mu sync.Mutex
	var got []int
	for range 20 {
		all.Go(func() {
			a := b.ask(owner, "POST", "/channels/"+text+"/webhooks", `{"name":"x"}`)
			mu.Lock()
			defer mu.Unlock()
			got = append(got, a.status)
			if a.status != 200 && a.code != int(fault.MaxWebhooks) {
				t.Error(a)
			}
		})
	}
	all.Wait()
	if n := b.count(`SELECT count(*) FROM webhooks`); n != wire.WebhooksPerChannelMax {
		t.Errorf("%d in a channel: %v", n, got)
	}
	other := get[wire.Channel](b, 201, owner, "POST", path("/guilds/%s/channels", g.ID), `{"name":"other"}`)
	b.hook(other.ID)
	last := b.hook(other.ID)
	b.want(int(fault.MaxWebhooks), owner, "POST", path("/channels/%s/webhooks", other.ID), `{"name":"x"}`)
	b.want(int(fault.MaxWebhooks), owner, "PATCH", path("/webhooks/%s", last.ID), `{"channel_id":"`+text+`"}`)
}

// TestWebhooks_GoWithTheirChannelAndGuild: out of the rows and out of the read model, which also finds them again when it is made anew.
func TestWebhooks_GoWithTheirChannelAndGuild(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	other := get[wire.Channel](b, 201, owner, "POST", path("/guilds/%s/channels", g.ID), `{"name":"other"}`)
	gone, stays := b.hook(other.ID), b.hook(b.channelOf(g.ID))
	known := func(w wire.Webhook, want bool) {
		t.Helper()
		record, err := b.roster.Webhook(t.Context(), w.ID)
		if want && (err != nil || record.Name != "hook" || !token.SameHash(record.TokenHash, token.HashWebhookToken(w.Token))) {
			t.Errorf("the read model has %+v, %v", record, err)
		}
		if !want && !fault.Is(err, fault.UnknownWebhook) {
			t.Errorf("the read model still has %+v, %v", record, err)
		}
	}
	known(gone, true)
	b.want(200, owner, "DELETE", path("/channels/%s", other.ID), "")
	known(gone, false)
	known(stays, true)
	state, err := b.log.Check(t.Context())
	b.must(err)
	b.must(roster.Rebuild(t.Context(), b.log, b.pool, roster.Rebuilding{Epoch: state.Epoch, Least: state.Last.Ms + 1}, []roster.Source{Source}))
	known(gone, false)
	known(stays, true)
	b.want(204, owner, "DELETE", path("/guilds/%s", g.ID), "")
	known(stays, false)
	b.want(10015, 0, "GET", path("/webhooks/%s/", stays.ID)+stays.Token, "")
	if n := b.count(`SELECT count(*) FROM webhooks`); n != 0 {
		t.Errorf("%d rows are left", n)
	}
}

func TestWebhooks_AreInTheAuditLog(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	b.want(201, owner, "PUT", path("/guilds/%s/members/%s", g.ID, robot), "")
	b.role(g.ID, 1, perm.ManageWebhooks, robot)
	text := b.channelOf(g.ID)
	made := get[wire.Webhook](b, 200, robot, "POST", "/channels/"+text+"/webhooks", `{"name":"hook"}`)
	if made.ApplicationID != robot {
		t.Errorf("the bot's is %+v", made)
	}
	at := path("/webhooks/%s", made.ID)
	b.because("why", owner, "PATCH", at, `{"name":"other"}`)
	b.want(200, 0, "PATCH", at+"/"+made.Token, `{"name":"third"}`)
	log := b.audit(g.ID, "?limit=3")
	if len(log.Webhooks) != 1 || log.Webhooks[0].Name != "third" || log.Webhooks[0].Token != "" {
		t.Errorf("the audit log shows %+v", log.Webhooks)
	}
	b.want(204, owner, "DELETE", at, "")
	var got []string
	for _, n := range b.audit(g.ID, "?limit=4").Entries {
		if n.Target != made.ID || n.Options["channel_id"] != text {
			t.Errorf("%+v", n)
		}
		var keys []string
		for _, c := range n.Changes {
			keys = append(keys, fmt.Sprintf("%s %s>%s", c.Key, c.Old, c.New))
		}
		got = append(got, fmt.Sprintf("%d %s %q %s", n.Action, n.Actor, n.Reason, strings.Join(keys, ", ")))
	}
	want := []string{
		fmt.Sprintf(`52 %s "" application_id "%s">, channel_id "%s">, name "third">, type 1>`, owner, robot, text),
		fmt.Sprintf(`51 %s "" name "other">"third"`, id.ID(0)),
		fmt.Sprintf(`51 %s "why" name "hook">"other"`, owner),
		fmt.Sprintf(`50 %s "" application_id >"%s", channel_id >"%s", name >"hook", type >1`, robot, robot, text),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestWebhooks_OutliveTheKey: who had the token can go on; it cannot be told any more.
func TestWebhooks_OutliveTheKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	g := b.guild()
	hook := b.hook(b.channelOf(g.ID))
	b.service.sealer = newSealer(t)
	b.want(200, 0, "GET", path("/webhooks/%s/", hook.ID)+hook.Token, "")
	if list := get[[]wire.Webhook](b, 200, owner, "GET", path("/guilds/%s/webhooks", g.ID), ""); len(list) != 1 || list[0].Token != "" {
		t.Errorf("told %+v", list)
	}
}
