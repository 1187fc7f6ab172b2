package quality

// Fault is whose part of a path makes it worse than it could be.
type Fault string

// All faults.
const (
	FaultNone   Fault = ""
	FaultUp     Fault = "uplink"   // the speaker's way to the server
	FaultDown   Fault = "downlink" // the server's way to the listener
	FaultServer Fault = "server"
	FaultFar    Fault = "distance" // all are well by themselves, and together too slow
)

// blameMin is how much of R a part must cost to be worth naming, and blameClear by how much more than the next one.
const blameMin, blameClear = 3, 1

// Blame says which part of a path costs the most: each is made perfect in thought, and R compared. A path on which nothing
// can be won by that has no fault.
func (p Path) Blame() Fault {
	without := func(f Fault) Path {
		q := p
		switch f {
		case FaultUp:
			q.Up = Leg{}
		case FaultDown:
			q.Down = Leg{}
			q.Buffer, q.Redundancy = 0, 0
		case FaultServer:
			q.ServerLoss, q.ServerDelay = 0, 0
		}
		return q
	}
	now := p.Rate().R
	worst, most, next := FaultNone, 0.0, 0.0
	for _, f := range []Fault{FaultUp, FaultDown, FaultServer} {
		gain := without(f).Rate().R - now
		if gain > most {
			worst, most, next = f, gain, most
		} else {
			next = max(next, gain)
		}
	}
	slow := delayImpairment(p.Delay())
	switch {
	case most < blameMin && slow < blameMin:
		return FaultNone
	case slow >= blameMin && slow > p.lossImpairment() && most-next < blameClear:
		return FaultFar
	}
	return worst
}
