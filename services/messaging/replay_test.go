package messaging

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/rueidis"

	"github.com/xcord/xcord/engine/bus"
	"github.com/xcord/xcord/engine/wire"
)

// TestDead_ReplayReadsOnlyWhatBelongsTogether: what is replayed costs the same among many as among few.
func TestDead_ReplayReadsOnlyWhatBelongsTogether(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.sicken()
	b.start()
	m := b.post(wire.CreateMessage{Content: "poison"}).ID
	b.edit(m, "poison, edited")
	b.settled()
	b.mend()
	at, last := bus.PositionOf(m), b.letters()[1].Entry.Pos
	const many = 3000
	var adds []rueidis.Completed
	for i := range many {
		behind := bus.Position{Ms: last.Ms + uint64(i) + 1}
		adds = append(adds, b.client.B().Xadd().Key("dead:{s00}:pg").Id(behind.String()).FieldValue().FieldValue("format", "9").Build())
	}
	for _, r := range b.client.DoMulti(t.Context(), adds...) {
		if err := r.Error(); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.admin.Do(t.Context(), b.admin.B().ConfigResetstat().Build()).Error(); err != nil {
		t.Fatal(err)
	}
	if out := b.replay(at); len(out) != 2 || b.rows("content = 'poison, edited'") != 1 {
		t.Errorf("replayed: %+v", out)
	}
	stats, err := b.admin.Do(t.Context(), b.admin.B().Info().Section("commandstats").Build()).ToString()
	if err != nil {
		t.Fatal(err)
	}
	_, calls, _ := strings.Cut(stats, "cmdstat_xrange:calls=")
	calls, _, _ = strings.Cut(calls, ",")
	if n, err := strconv.Atoi(calls); err != nil || n == 0 || n > 10 {
		t.Errorf("it took %q reads, want some", calls)
	}
}

// An entry that this binary cannot read keeps what waits for it, and takes it along when it is dropped.
func TestDead_WhatCannotBeReadKeepsWhatWaitsForIt(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	b.start()
	id, err := b.client.Do(t.Context(), b.client.B().Xadd().Key("ev:{s00}").Id("*").FieldValue().FieldValue("format", "9").Build()).ToString()
	if err != nil {
		t.Fatal(err)
	}
	create, err := bus.ParsePosition(id)
	if err != nil {
		t.Fatal(err)
	}
	b.settled()
	payload, err := json.Marshal(wire.MessageUpdatedPayload{MessageID: bus.MessageID(create), Message: []byte(`{"content":"edited"}`)})
	if err != nil {
		t.Fatal(err)
	}
	edit, err := b.log.Publish(t.Context(), bus.Post{Entry: bus.Entry{Type: wire.MessageUpdated, Actor: memberID, Guild: guildID, Channel: generalID, Body: payload}})
	if err != nil {
		t.Fatal(err)
	}
	b.settled()
	for _, at := range []bus.Position{create, edit.Pos} {
		if out := b.replay(at); len(out) != 2 || out[0].err == nil {
			t.Errorf("replayed %s: %+v", at, out)
		}
	}
	if n := len(b.letters()); n != 2 {
		t.Fatalf("%d dead letters, want both", n)
	}
	out, err := b.svc.graves.drop(t.Context(), b.svc.store, []bus.Position{create})
	if err != nil || len(out) != 2 || len(b.letters()) != 0 {
		t.Errorf("dropped: %+v, %v", out, err)
	}
}
