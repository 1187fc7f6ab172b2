package impair

import (
	"container/heap"
	"sync"
	"time"
)

// flyingMax is how many packets may be under way on a link; more are lost, and counted as dropped.
const flyingMax = 8192

// Link carries packets in one direction as a line decides, on the clock of package time, which may be virtual. All methods
// are for any goroutine.
type Link struct {
	mu      sync.Mutex
	line    *Line
	only    func(packet []byte) bool
	watch   func(Fate)
	flying  flights
	count   uint64
	begin   time.Time
	wake    chan struct{}
	deliver func(packet []byte, meta any)
}

// Fate is what becomes of one packet of those that a line is for.
type Fate struct {
	// Packet is to be read before the call returns, and not kept.
	Packet []byte
	// Sent is when it was put on the line, by the link's own clock.
	Sent time.Duration
	// Arrivals are when it gets there: none if it is lost, two if it is doubled.
	Arrivals []time.Duration
}

func newLink(seed uint64, config Config, deliver func(packet []byte, meta any)) *Link {
	return &Link{line: NewLine(seed, config), begin: time.Now(), wake: make(chan struct{}, 1), deliver: deliver}
}

// Set changes what the line is like for the packets to come.
func (l *Link) Set(config Config) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.line.Set(config)
}

// Only leaves all packets alone for which f is false: they pass at once and are not counted. f must not block.
func (l *Link) Only(f func(packet []byte) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.only = f
}

// Watch calls f with the fate of every packet that the line is for, in the order in which they were sent. f must not
// block and not call the link.
func (l *Link) Watch(f func(Fate)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watch = f
}

// Truth is what the line did so far.
func (l *Link) Truth() Truth {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.line.Truth()
}

// RTP is for Only: packets of RTP, encrypted or not, and neither RTCP nor what sets a connection up (RFC 5761, 7983).
func RTP(packet []byte) bool {
	return len(packet) >= 12 && packet[0]>>6 == 2 && (packet[1] < 192 || packet[1] > 223)
}

// Media is for Only: RTP and RTCP, and not what sets a connection up and keeps it.
func Media(packet []byte) bool { return len(packet) >= 8 && packet[0]>>6 == 2 }

func (l *Link) send(packet []byte, meta any) {
	l.mu.Lock()
	if l.only != nil && !l.only(packet) {
		l.mu.Unlock()
		l.deliver(packet, meta)
		return
	}
	now := time.Since(l.begin)
	arrivals, n := l.line.Send(now, len(packet))
	if l.watch != nil {
		l.watch(Fate{Packet: packet, Sent: now, Arrivals: arrivals[:n]})
	}
	direct := n == 1 && arrivals[0] <= now && len(l.flying) == 0
	for _, at := range arrivals[:n] {
		switch {
		case direct:
		case len(l.flying) == flyingMax:
			l.line.truth.Dropped++
		default:
			l.count++
			heap.Push(&l.flying, flight{at: at, number: l.count, packet: append([]byte(nil), packet...), meta: meta})
		}
	}
	l.mu.Unlock()
	if direct {
		l.deliver(packet, meta)
		return
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run delivers what is due until stop is closed; what is under way then is gone.
func (l *Link) run(stop <-chan struct{}) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		due, next := l.due()
		for _, f := range due {
			l.deliver(f.packet, f.meta)
		}
		timer.Reset(next)
		select {
		case <-stop:
			return
		case <-l.wake:
		case <-timer.C:
		}
	}
}

func (l *Link) due() (due []flight, next time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Since(l.begin)
	for len(l.flying) > 0 {
		if wait := l.flying[0].at - now; wait > 0 {
			return due, wait
		}
		due = append(due, heap.Pop(&l.flying).(flight))
	}
	return due, time.Hour
}

// flight is a packet under way; flights is a heap of them, by arrival and then in the order in which they were sent.
type flight struct {
	at     time.Duration
	number uint64
	packet []byte
	meta   any
}

type flights []flight

func (f flights) Len() int { return len(f) }
func (f flights) Less(i, j int) bool {
	if f[i].at != f[j].at {
		return f[i].at < f[j].at
	}
	return f[i].number < f[j].number
}
func (f flights) Swap(i, j int) { f[i], f[j] = f[j], f[i] }
func (f *flights) Push(x any)   { *f = append(*f, x.(flight)) }
func (f *flights) Pop() any {
	last := len(*f) - 1
	x := (*f)[last]
	(*f)[last] = flight{}
	*f = (*f)[:last]
	return x
}
