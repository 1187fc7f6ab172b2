package quality

import "time"

// WindowLength is how much of a stream one score is about.
const WindowLength = 5 * time.Second

// Window is what a stream was like between two snapshots. Shares are from 0 to 1.
type Window struct {
	Length time.Duration
	// Packets that came or went, and how many bits a second their payloads were.
	Packets uint64
	Bitrate int
	// Loss is what is missing after NACK and RED did what they could, Network what the network lost before that.
	Loss, Network float64
	// Burst is how many packets one right after another were lost on average; 0 if it is not known or nothing was lost.
	Burst float64
	// Late is the share of what came that came too late to be played.
	Late        float64
	Jitter, RTT time.Duration
	// Pauses is the share of packets in which nothing is said. Silent is the share of those with a level that have no signal
	// at all, and Loud of those that are overdriven; Leveled is how many have a level.
	Pauses, Silent, Loud float64
	Leveled              uint64
	// Recovered are packets that NACK and RED brought back; of a stream that is sent those that were asked for again.
	RecoveredNACK, RecoveredRED uint64
	// Judged is whether enough was sent for Loss to mean something.
	Judged bool
	// Quiet is for how long nothing came or went at the end of the window, and Unheard for how long the other side is not there
	// as far as is certain: it says nothing, or that nothing comes.
	Quiet, Unheard time.Duration
}

// judgedMin is of how many packets a share of lost ones says something: a lost one of ten is no loss of 10 %.
const judgedMin = 20

// Between is what happened from one snapshot to a later one of the same stream.
func Between(before, after Snapshot) Window {
	length := after.At - before.At
	settled := after.Settled - before.Settled
	lost := after.Lost - before.Lost
	bursts := after.Bursts - before.Bursts
	w := Window{
		Length: length, Packets: after.Packets - before.Packets, Jitter: after.Jitter, RTT: after.RTT,
		RecoveredNACK: after.RecoveredNACK - before.RecoveredNACK, RecoveredRED: after.RecoveredRED - before.RecoveredRED,
		Leveled: after.Leveled - before.Leveled, Judged: settled >= judgedMin,
		Quiet: after.At - after.LastPacket, Unheard: after.At - after.Heard,
	}
	if length > 0 {
		w.Bitrate = int(float64(after.Bytes-before.Bytes) * 8 / length.Seconds())
	}
	w.Loss = share(lost, settled)
	w.Network = min(1, share(lost+w.RecoveredNACK+w.RecoveredRED, settled))
	if bursts > 0 {
		w.Burst = float64(lost) / float64(bursts)
	}
	w.Late = share(after.Late-before.Late, w.Packets)
	w.Pauses = share(after.Pauses-before.Pauses, w.Packets)
	w.Silent = share(after.Silent-before.Silent, w.Leveled)
	w.Loud = share(after.Loud-before.Loud, w.Leveled)
	return w
}

// Leg is the window as a part of a path. Of a stream that is sent it is what the listener's line did, before copies.
func (w Window) Leg() Leg {
	return Leg{Loss: w.Loss, Late: w.Late, Burst: w.Burst, RTT: w.RTT, Jitter: w.Jitter}
}

func share(part, whole uint64) float64 {
	if whole == 0 {
		return 0
	}
	return min(1, float64(part)/float64(whole))
}
