package auth

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/client"
	"github.com/xcord/xcord/engine/fault"
	"github.com/xcord/xcord/engine/identity"
	"github.com/xcord/xcord/engine/wire"
)

func TestSessions_AreListedAndEnded(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	first, ada := b.register("ada")
	second, err := b.client.Login(b.ctx, "ada", password)
	if err != nil {
		t.Fatal(err)
	}
	_, eve := b.register("eve")
	if _, err := b.client.Refresh(b.ctx, first.RefreshToken); err != nil { // the first is the one that was used last
		t.Fatal(err)
	}
	list, err := ada.Sessions(b.ctx)
	if err != nil {
		t.Fatal(err)
	}
	var hashes []string
	for _, s := range list.UserSessions {
		hashes = append(hashes, s.IDHash)
		if s.ClientInfo.Location != "127.0.0.1" || s.LastUsed == 0 {
			t.Errorf("got %+v", s)
		}
	}
	if diff := cmp.Diff([]string{hashSession(first.SessionID), hashSession(second.SessionID)}, hashes); diff != "" {
		t.Fatal(diff)
	}

	if err := eve.EndSessions(b.ctx, hashes...); err != nil { // none of hers
		t.Fatal(err)
	}
	if _, err := ada.Me(b.ctx); err != nil {
		t.Fatalf("a stranger has ended it: %v", err)
	}
	for range 2 { // the second time there is nothing to do
		if err := ada.EndSessions(b.ctx, hashes[1]); err != nil {
			t.Fatal(err)
		}
	}
	_, err = b.client.WithToken(second.Token).Me(b.ctx)
	b.wantStatus(err, 401)
	_, err = b.client.Refresh(b.ctx, second.RefreshToken)
	b.wantStatus(err, 401)
	if list, err = ada.Sessions(b.ctx); err != nil || len(list.UserSessions) != 1 {
		t.Errorf("left %+v, %v", list, err)
	}
	b.wantField(ada.EndSessions(b.ctx, hashes[0], "nonsense"), "session_id_hashes.1", fault.FieldRegex)
	b.wantField(ada.EndSessions(b.ctx), "session_id_hashes", fault.FieldRequired)
	_, _, bot := b.bot(ada, "robot")
	if _, err := bot.Sessions(b.ctx); !client.IsCode(err, fault.NotForBots) {
		t.Errorf("got %v", err)
	}
}

func TestSessions_EndWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	in, ada := b.register("ada")
	elsewhere := identity.New(identity.Deps{Tokens: b.verifier(), Roster: b.roster, Log: b.log})
	heard := make(chan identity.Revoked, 10)
	elsewhere.OnRevoke(func(r identity.Revoked) { heard <- r })
	if err := elsewhere.Start(b.ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(elsewhere.Stop)
	b.redis.Stop()
	if err := ada.Logout(b.ctx); err != nil {
		t.Fatal(err)
	}
	_, err := ada.Me(b.ctx)
	b.wantStatus(err, 401) // here at once
	if err := b.redis.Start(b.ctx); err != nil {
		t.Fatal(err)
	}
	if got := <-heard; got.Session != in.SessionID {
		t.Errorf("heard %+v", got)
	}
}

// TestSessions_AreAnnouncedForADeadProcess: one that has ended a session and died before it could say so.
func TestSessions_AreAnnouncedForADeadProcess(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	in, ada := b.register("ada")
	if _, err := b.pool.Exec(b.ctx, `update sessions set revoked_at = now() where id = $1`, in.SessionID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the refusal of the access token", func() bool {
		_, err := ada.Me(b.ctx)
		return client.IsStatus(err, 401)
	})
	eventually(t, "the mark", func() (announced bool) {
		if err := b.pool.QueryRow(b.ctx, `select announced from sessions where id = $1`, in.SessionID).Scan(&announced); err != nil {
			t.Fatal(err)
		}
		return announced
	})
}

func TestDevice_IsWhatTheClientSays(t *testing.T) {
	t.Parallel()
	f := func(agent, properties string, want device) {
		t.Helper()
		if got := newDevice(agent, properties); got != want {
			t.Errorf("%q %q: got %+v, want %+v", agent, properties, got, want)
		}
	}
	const chrome = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0 Safari/537.36"
	f("", "", device{})
	f(chrome, "", device{"Windows", "Chrome"})
	f(chrome+" Edg/130.0", "", device{"Windows", "Edge"})
	f("Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 Chrome/130.0 Mobile Safari/537.36", "", device{"Android", "Chrome"})
	f("Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) Version/17.0 Mobile Safari/604.1", "", device{"iOS", "Safari"})
	f("Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0", "", device{"Linux", "Firefox"})
	f("curl/8.5.0", "", device{"", "curl"})
	encode := func(json string) string { return base64.StdEncoding.EncodeToString([]byte(json)) }
	f(chrome, encode(`{"os":"Plan 9","browser":"Mothra"}`), device{"Plan 9", "Mothra"})
	f(chrome, encode(`{"os":"Plan 9"}`), device{"Plan 9", "Chrome"})
	f(chrome, encode(`{"os":7}`), device{"Windows", "Chrome"})
	f(chrome, "nonsense", device{"Windows", "Chrome"})
	f(chrome, encode(`{"os":"a\u0000b","browser":"`+fmt.Sprintf("%065d", 0)+`"}`), device{})
	f("\xff/1\x00", "", device{})
}

func TestSessions_ShowTheDevice(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.register("ada")
	login := `{"login":"ada","password":"` + password + `"}`
	req, err := http.NewRequestWithContext(b.ctx, http.MethodPost, b.address()+"/api/v10/auth/login", strings.NewReader(login))
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Super-Properties", base64.StdEncoding.EncodeToString([]byte(`{"os":"Plan 9","browser":"Mothra"}`)))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	var in wire.LoggedIn
	if err := json.NewDecoder(res.Body).Decode(&in); err != nil {
		t.Fatal(err)
	}
	list, err := b.client.WithToken(in.Token).Sessions(b.ctx)
	want := wire.ClientInfo{OS: "Plan 9", Platform: "Mothra", Location: "127.0.0.1"}
	if err != nil || list.UserSessions[0].ClientInfo != want {
		t.Errorf("got %+v, %v", list, err)
	}
}
