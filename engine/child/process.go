// Package child runs a server program as a child of this process: a private place for it on disk, an account that is not
// root, an end together with its parent, and the removal of what a crash left behind. It knows no particular server, does
// not restart what died, and never signals a process that does not work in the directory it was given. Linux only.
package child

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Spec says what to run.
type Spec struct {
	Path   string
	Args   []string
	Env    []string // the whole environment; nothing is inherited
	Dir    string
	User   User
	Stdin  []byte         // what the program reads on its standard input, under 64 KiB
	Output *os.File       // gets standard output and error
	Orphan syscall.Signal // what the kernel sends when this process dies, however it dies
}

// Step is one rung of a ladder of signals: send Signal, wait up to Wait, then take the next rung.
type Step struct {
	Signal syscall.Signal
	Wait   time.Duration
}

// Process is a running child. Any goroutine may call any method.
type Process struct {
	cmd  *exec.Cmd
	wait sync.WaitGroup
	done chan struct{}
	err  error // written before done is closed
}

// Start runs the program in a session of its own, so that a Ctrl-C on the terminal reaches only the parent, which then
// ends the child in its own order. A process group of its own would do for that, but the kernel wakes a stopped child of such a group
// when its parent dies, and hangs up on it.
func Start(s Spec) (*Process, error) {
	cmd := exec.Command(s.Path, s.Args...)
	cmd.Env = append([]string{}, s.Env...)
	cmd.Dir = s.Dir
	cmd.Stdout, cmd.Stderr = s.Output, s.Output
	if s.Stdin != nil {
		cmd.Stdin = bytes.NewReader(s.Stdin)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: s.Orphan, Credential: s.User.credential()}
	p := &Process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	p.wait.Go(func() {
		// The kernel sends Pdeathsig when the thread that forked ends, not the process: the thread is held until the child
		// is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		close(p.done)
	})
	if err := <-started; err != nil {
		p.wait.Wait()
		return nil, fmt.Errorf("run %s: %w", s.Path, err)
	}
	return p, nil
}

// Run runs a program to its end, or kills it when ctx ends.
func Run(ctx context.Context, s Spec) error {
	p, err := Start(s)
	if err != nil {
		return err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		p.Stop(nil)
		return fmt.Errorf("run %s: %w", s.Path, ctx.Err())
	}
	p.wait.Wait()
	if p.err != nil {
		return fmt.Errorf("run %s: %w", s.Path, p.err)
	}
	return nil
}

// Pid is the process id of the child.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the child has ended and has been waited for.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says how the child ended; nil means exit status 0. Only after Done.
func (p *Process) Err() error { return p.err }

// Stop takes the child down the ladder and kills it at its foot. It returns when the child is gone.
func (p *Process) Stop(ladder []Step) {
	for _, step := range ladder {
		// An error means that it has ended: Done tells.
		_ = p.cmd.Process.Signal(step.Signal)
		if p.gone(step.Wait) {
			return
		}
	}
	_ = p.cmd.Process.Kill()
	p.wait.Wait()
}

func (p *Process) gone(wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-p.done:
		p.wait.Wait()
		return true
	case <-timer.C:
		return false
	}
}
