package e2e

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xcord/xcord/engine/client"
	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

// TestModeration_IsNotedAndPurges through the gateway of one node and the services of another: a deleted message, and a ban with what the banned
// wrote, on the socket, in the history and in the audit log.
func TestModeration_IsNotedAndPurges(t *testing.T) {
	t.Parallel()
	w := split(t)
	ada, bob := w.register(t, "ada"), w.register(t, "bob")
	guild, channel := ada.guild(t, "first")
	ada.invite(t, channel, bob)
	adas := ada.connect(t, client.GatewayConfig{})
	await(t, adas, "GUILD_CREATE", nil)
	kept := ada.say(t, channel, "welcome")
	var bobs []id.ID
	for i := range 4 {
		bobs = append(bobs, bob.say(t, channel, fmt.Sprint(i)).ID)
	}
	noted := func(action wire.AuditAction, target id.ID, reason string) {
		t.Helper()
		d := await(t, adas, "GUILD_AUDIT_LOG_ENTRY_CREATE", nil)
		n, _ := client.As[wire.AuditEntryCreate](d, d.Type)
		if n.Action != action || n.Actor != ada.id || n.Target != target || n.Reason != reason || n.GuildID != guild {
			t.Errorf("noted %s", d.Raw)
		}
	}
	if err := ada.DeleteMessage(t.Context(), channel, bobs[0]); err != nil {
		t.Fatal(err)
	}
	await(t, adas, "MESSAGE_DELETE", nil)
	noted(wire.AuditMessageDelete, bob.id, "")
	hour := 3600
	if err := ada.Ban(t.Context(), guild, bob.id, wire.BanUser{DeleteMessageSeconds: &hour}, "spam, plainly"); err != nil {
		t.Fatal(err)
	}
	await(t, adas, "GUILD_MEMBER_REMOVE", nil)
	await(t, adas, "GUILD_BAN_ADD", nil)
	noted(wire.AuditBanAdd, bob.id, "spam, plainly")
	d := await(t, adas, "MESSAGE_DELETE_BULK", nil)
	if m, _ := client.As[wire.MessageDeleteBulk](d, d.Type); !cmp.Equal([]id.ID(m.IDs), bobs[1:]) {
		t.Errorf("deleted %s, want %v", d.Raw, bobs[1:])
	}
	if diff := cmp.Diff([]id.ID{kept.ID}, wholeHistory(t, ada, channel)); diff != "" {
		t.Errorf("history: %s", diff)
	}
	eventually(t, func() error {
		log, err := ada.AuditLog(t.Context(), guild, wire.ListAuditLog{Target: bob.id})
		if err != nil || len(log.Entries) != 2 || log.Entries[0].Action != wire.AuditBanAdd || log.Entries[1].Action != wire.AuditMessageDelete {
			return fmt.Errorf("the audit log has %+v, %v", log.Entries, err)
		}
		return nil
	})
	if adas.Stats().Gaps != 0 {
		t.Errorf("ada's session has %d gaps in its numbers", adas.Stats().Gaps)
	}
}
