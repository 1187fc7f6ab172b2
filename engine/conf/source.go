package conf

import (
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// secretFileMax bounds what is read for one secret: a PEM key with a chain of certificates has less than 64 KiB.
const secretFileMax = 64 << 10

// environment keeps what is ours and lists what looks like ours.
func (l *loader) environment(environ []string) {
	for _, kv := range environ {
		name, value, ok := strings.Cut(kv, "=")
		if !ok || !strings.HasPrefix(name, envPrefix) {
			continue
		}
		if l.byEnv[name] == nil {
			l.unknown = append(l.unknown, name)
			continue
		}
		if value != "" { // empty is unset: compose files and charts pass on variables that nobody has set
			l.env[name] = value
		}
	}
}

// arguments accepts -addr for --addr, and takes out what is a mistake, so that the parser can go on to the next one.
func (l *loader) arguments(args []string) []string {
	long := map[string]*setting{}
	short := map[string]bool{"h": true}
	for _, s := range l.settings {
		long[s.flag.Name] = s
		for _, alias := range s.flag.Aliases {
			long[alias] = s
		}
		if s.flag.Tag.Negatable != "" {
			long["no-"+s.flag.Name] = s
		}
		short[string(s.flag.Short)] = true
	}
	var out []string
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			return append(out, args[i:]...)
		}
		if len(arg) < 2 || arg[0] != '-' {
			out = append(out, arg)
			continue
		}
		dashed := strings.TrimLeft(arg, "-")
		name, _, hasValue := strings.Cut(dashed, "=")
		s := long[name]
		switch {
		case s != nil && s.secret:
			l.mistake("--%s: a secret must not be an argument, where every user of the machine sees it; set %s or %s_FILE",
				name, s.envs[0], s.envs[0])
			if !hasValue && i+1 < len(args) {
				i++
			}
		case s != nil || name == "help":
			out = append(out, "--"+dashed)
		case !strings.HasPrefix(arg, "--") && short[arg[1:2]]:
			out = append(out, arg)
		default:
			l.mistake("%s: there is no such flag; --help lists them", strings.SplitN(arg, "=", 2)[0])
			if !hasValue && i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") && !l.isCommand(args[i+1]) {
				i++ // most likely its value: as an argument too many it would end the parser, and hide all other mistakes
			}
		}
	}
	return out
}

func (l *loader) isCommand(arg string) bool {
	return slices.ContainsFunc(l.parser.Model.Children, func(n *kong.Node) bool { return n.Name == arg })
}

// readFile reads the file of settings, if the arguments or the environment name one.
func (l *loader) readFile(args []string) {
	path := l.env[envPrefix+"CONFIG"]
	for i, arg := range args {
		if value, ok := strings.CutPrefix(arg, "--config="); ok {
			path = value
		} else if arg == "--config" && i+1 < len(args) {
			path = args[i+1]
		}
	}
	if path == "" {
		return
	}
	text, err := os.ReadFile(path)
	if err != nil {
		l.mistake("file of settings: %w", err)
		return
	}
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		name = strings.TrimSpace(name)
		if !ok || l.byEnv[name] == nil {
			// The line itself is not repeated: it may hold a secret.
			l.mistake("%s:%d: want XCORD_NAME=value with the name of a setting", path, i+1)
			continue
		}
		if value = unquote(strings.TrimSpace(value)); value != "" {
			l.file[name] = value
		}
	}
}

// unquote takes off one pair of quotes, which the same file needs when a shell or systemd reads it too.
func unquote(s string) string {
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		return s[1 : len(s)-1]
	}
	return s
}

// resolve tells the parser the value of a flag that is not among the arguments: from the environment, else the file.
func (l *loader) resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	for _, s := range l.settings {
		if s.flag != flag {
			continue
		}
		for _, values := range []map[string]string{l.env, l.file} {
			for _, env := range s.envs {
				if value, ok := l.lookup(s, env, values); ok {
					l.origin[flag.Value] = env
					return value, nil
				}
			}
		}
	}
	return nil, nil
}

// lookup finds a setting under one name, directly or, for a secret, in the file that NAME_FILE names.
func (l *loader) lookup(s *setting, env string, values map[string]string) (string, bool) {
	value, ok := values[env]
	if !s.secret {
		return value, ok
	}
	path, byFile := values[env+"_FILE"]
	switch {
	case ok && byFile:
		l.mistake("%s and %s_FILE are both set; set one", env, env)
		return "", false
	case !byFile:
		return value, ok
	}
	f, err := os.Open(path)
	if err != nil {
		l.mistake("%s_FILE: %w", env, err)
		return "", false
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, secretFileMax+1))
	if err == nil && len(text) > secretFileMax {
		err = fmt.Errorf("%s has more than %d bytes", path, secretFileMax)
	}
	if err != nil {
		l.mistake("%s_FILE: %w", env, err)
		return "", false
	}
	return strings.TrimRight(string(text), "\r\n"), true // editors end a file with a newline
}

// recorder is a mapper that notes a mistake and lets the parser go on with the default.
type recorder struct {
	kong.Mapper
	loader *loader
}

// Decode fills target from the scanner. It never fails, so that Load can name every mistake.
func (r *recorder) Decode(ctx *kong.DecodeContext, target reflect.Value) error {
	err := r.Mapper.Decode(ctx, target)
	if err == nil {
		err = r.checkEnum(ctx.Value, target)
	}
	if err == nil {
		return nil
	}
	name := r.loader.origin[ctx.Value]
	if name == "" {
		name = "--" + ctx.Value.Name
	}
	if isSecret(ctx.Value.Target.Type()) {
		err = fmt.Errorf("the value of this secret cannot be read")
	}
	r.loader.mistake("%s: %w", name, err)
	ctx.Value.Enum, ctx.Value.Tag.Enum = "", "" // reported; the parser would repeat it
	target.SetZero()
	if !ctx.Value.HasDefault {
		return nil
	}
	// With the default in its place, Validate does not complain about the same field again.
	scan := kong.ScanFromTokens(kong.Token{Type: kong.FlagValueToken, Value: ctx.Value.Default})
	if err := r.Mapper.Decode(&kong.DecodeContext{Value: ctx.Value, Scan: scan}, target); err != nil {
		return fmt.Errorf("BUG: the default %q of --%s: %w", ctx.Value.Default, ctx.Value.Name, err)
	}
	return nil
}

func (r *recorder) checkEnum(v *kong.Value, target reflect.Value) error {
	if v.Enum == "" {
		return nil
	}
	given := []reflect.Value{target}
	if target.Kind() == reflect.Slice {
		given = given[:0]
		for i := range target.Len() {
			given = append(given, target.Index(i))
		}
	}
	for _, one := range given {
		if !v.EnumMap()[fmt.Sprint(one.Interface())] {
			return fmt.Errorf("%q is none of %s", fmt.Sprint(one.Interface()), strings.Join(v.EnumSlice(), ", "))
		}
	}
	return nil
}

// IsBoolFromValue keeps a boolean flag one that needs no value.
func (r *recorder) IsBoolFromValue(target reflect.Value) bool {
	switch m := r.Mapper.(type) {
	case kong.BoolMapperExt:
		return m.IsBoolFromValue(target)
	case kong.BoolMapper:
		return m.IsBool()
	}
	return false
}
