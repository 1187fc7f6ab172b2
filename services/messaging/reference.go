package messaging

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/xcord/xcord/engine/id"
	"github.com/xcord/xcord/engine/wire"
)

// replyHead is how the body of a reply begins: its type is its first field.
var replyHead = []byte(`{"type":` + strconv.Itoa(int(wire.MessageReply)) + `,`)

// refer is the bodies of the replies among messages with what those that they answer are now: null of what is deleted, whose text must not be
// read there any more. The caller has caught up.
func (s *Service) refer(ctx context.Context, channel id.ID, messages []found) (map[id.ID][]byte, error) {
	var replies []*wire.MessageBody
	var ids []id.ID
	for _, m := range messages {
		if !bytes.HasPrefix(m.body, replyHead) {
			continue
		}
		body := new(wire.MessageBody)
		if err := json.Unmarshal(m.body, body); err != nil {
			return nil, fmt.Errorf("message %s: %w", m.id, err)
		}
		replies, ids = append(replies, body), append(ids, m.id)
	}
	if len(replies) == 0 {
		return nil, nil
	}
	if err := s.referAll(ctx, channel, replies); err != nil {
		return nil, err
	}
	bodies := make(map[id.ID][]byte, len(replies))
	for i, body := range replies {
		raw, err := encode(body)
		if err != nil {
			return nil, err
		}
		bodies[ids[i]] = raw
	}
	return bodies, nil
}

// referAll sets what replies answer.
func (s *Service) referAll(ctx context.Context, channel id.ID, replies []*wire.MessageBody) error {
	var ids, authors []id.ID
	for _, r := range replies {
		if r.Reference != nil {
			ids = append(ids, r.Reference.MessageID)
		}
	}
	there, err := s.findAll(ctx, channel, ids)
	if err != nil {
		return err
	}
	answered := make(map[id.ID]found, len(there))
	for _, m := range there {
		answered[m.id] = m
		authors = append(authors, m.author)
	}
	users, err := s.roster.Users(ctx, authors)
	if err != nil {
		return err
	}
	for _, r := range replies {
		if r.Reference == nil {
			continue
		}
		r.Referenced = wire.Clear[wire.RepliedMessage]()
		if m, ok := answered[r.Reference.MessageID]; ok {
			to, err := whole(m, users)
			if err != nil {
				return err
			}
			r.Referenced = wire.Some(to.Replied())
		}
	}
	return nil
}
