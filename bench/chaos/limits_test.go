package chaos

import (
	"syscall"
	"unsafe"
)

var limitFaults = []fault{
	// The collector works without pause, and the node is slow: it must stay correct.
	{name: "a node in little memory", long: true, do: func(x *run) {
		n := x.anyNode()
		for _, env := range [][]string{{"GOMEMLIMIT=16MiB", "GOMAXPROCS=1"}, nil} {
			x.m.end(n)
			n.env = env
			x.m.begin(n)
			x.m.await(n)
			if env != nil {
				x.last(3)
			}
		}
	}},
	{name: "a node without file descriptors", do: func(x *run) {
		n := x.anyNode()
		const few = 16 // below what it has open: it gets no new one
		before := x.limitFiles(n.child.Pid(), few)
		for range 2 {
			x.ask("cut") // everybody comes back
			x.last(1)
		}
		x.limitFiles(n.child.Pid(), before)
	}},
}

// limitFiles sets how many files a process may open from now on, and answers with how many it might.
func (x *run) limitFiles(pid int, most uint64) uint64 {
	x.m.t.Helper()
	var old, limit syscall.Rlimit
	prlimit := func(to, from *syscall.Rlimit) {
		_, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(pid), syscall.RLIMIT_NOFILE,
			uintptr(unsafe.Pointer(to)), uintptr(unsafe.Pointer(from)), 0, 0)
		if errno != 0 {
			x.m.t.Fatal("prlimit: ", errno)
		}
	}
	prlimit(nil, &old)
	limit = old
	limit.Cur = most
	prlimit(&limit, nil)
	return old.Cur
}
