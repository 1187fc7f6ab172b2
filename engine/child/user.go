package child

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// User is the account that a child runs under. The zero value is the account of this process.
type User struct {
	Name     string
	UID, GID int
	other    bool
}

// pickUser gives the account for a child whose files may exist already in dir: this process's own, or as root the owner
// of dir, or else the first of names that the machine knows.
func pickUser(dir string, names []string) (User, error) {
	if os.Geteuid() != 0 {
		return User{}, nil
	}
	if info, err := os.Stat(dir); err == nil {
		if uid, gid := owner(info); uid != 0 {
			return User{Name: "uid " + strconv.Itoa(uid), UID: uid, GID: gid, other: true}, nil
		}
	}
	for _, name := range names {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err1 == nil && err2 == nil && uid != 0 {
			return User{Name: name, UID: uid, GID: gid, other: true}, nil
		}
	}
	return User{}, fmt.Errorf("as root a server runs under another account, and none of %v exists", names)
}

func (u User) credential() *syscall.Credential {
	if !u.other {
		return nil
	}
	return &syscall.Credential{Uid: uint32(u.UID), Gid: uint32(u.GID)}
}

// give hands a file or directory to the account.
func (u User) give(path string) error {
	if !u.other {
		return nil
	}
	return os.Chown(path, u.UID, u.GID)
}

// reaches says whether the account may pass through every directory above path. Without this the child would end with a
// bare "Permission denied".
func (u User) reaches(path string) error {
	if !u.other {
		return nil
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		uid, gid := owner(info)
		mode := info.Mode().Perm()
		passable := mode&0o001 != 0
		switch {
		case uid == u.UID:
			passable = mode&0o100 != 0
		case gid == u.GID:
			passable = mode&0o010 != 0
		}
		if !passable {
			return fmt.Errorf("%s lets %s not pass (mode %04o), so no server can run in %s: choose a directory that every account can reach, such as one below /var/lib",
				dir, u.Name, mode, path)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

func owner(info os.FileInfo) (uid, gid int) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		panic("BUG: child: no Stat_t in os.FileInfo")
	}
	return int(st.Uid), int(st.Gid)
}
