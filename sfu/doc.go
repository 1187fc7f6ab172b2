// Package sfu forwards voice: rooms of participants, each with one PeerConnection that is negotiated once. A client offers
// one microphone and N slots to hear others in; who is heard in a slot changes without a word of SDP, and the CSRC of every
// packet says who it is. It knows rooms, voice ids and SDP; it does not know users, channels, permissions or how an offer
// and an answer travel, and it neither decodes nor mixes.
//
// # The way of a packet
//
//	client → socket → Pion: ICE, SRTP ─ one goroutine per participant from here ─┐
//	source.take      judge the packet, find its level, wait for a voice           │
//	room.claim       first voiced packet of a spurt: find it a slot with each listener (the room's lock)
//	source.forward   number it, keep it in the ring, give it to each slot of the snapshot
//	slot.send        new sequence number, time, SSRC, CSRC (the slot's lock) → SRTP → socket.queue
//	socket.Flush     what was queued goes out, many packets with one system call
//
// Silence ends at source.take. Who is not heard by anybody costs one decryption and no sends.
//
// # Locks
//
// Server.mu → room.mu → slot.mu → ring.mu; none of them is held over a system call but the socket's own. Packets take no lock
// that grows with the room: a source's listeners are an immutable slice behind an atomic pointer, replaced whole under room.mu.
package sfu
