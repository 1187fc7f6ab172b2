// Package conf fills a struct of settings from defaults, a file, the environment, `_FILE` secrets and flags, in this
// order, later ones winning, and prints what the settings are. It does not own any setting: the struct and its kong
// tags live with whoever knows the meaning. Nothing else in the house reads the environment.
//
// The flag --redis-url is XCORD_REDIS_URL in the environment and in the file. A field of type Secret has no flag,
// because arguments are visible to every user of a machine; it has XCORD_X or XCORD_X_FILE, the path of a file that
// holds the value. The file of settings (--config, XCORD_CONFIG) has lines like XCORD_ADDR=127.0.0.1:8080.
package conf

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// envPrefix begins the name of every variable of ours.
const envPrefix = "XCORD_"

// ErrHelp means that the user asked for help and has got it; the program ends with exit code 0.
var ErrHelp = errors.New("help was printed")

// Program is what the help says about the program.
type Program struct {
	Name string
	Help string
	Out  io.Writer // where --help goes; nil: standard output
}

// Source is where settings come from, besides defaults and the file.
type Source struct {
	Args    []string // without the program's name
	Environ []string // like os.Environ
}

// Process is the Source of this process.
func Process() Source { return Source{Args: os.Args[1:], Environ: os.Environ()} }

// Loaded is what Load found out besides the settings.
type Loaded struct {
	// Command is the selected command, "serve" or "dlq ls", without its arguments; "" if target has no commands.
	Command string
	// Unknown are variables that begin with XCORD_ and are no setting. They are not mistakes, because Kubernetes makes
	// such variables for a service of that name, but somebody should be told.
	Unknown []string
}

// Load fills target, a pointer to a struct with kong tags, and calls its Validate() error if it has one. The error names
// every mistake, one a line, and never contains the value of a secret.
func Load(target any, p Program, src Source) (Loaded, error) {
	l, err := newLoader(target, p)
	if err != nil {
		return Loaded{}, err
	}
	l.environment(src.Environ)
	args := l.arguments(src.Args)
	l.readFile(args)
	ctx, err := l.parser.Parse(args)
	if l.helped {
		return Loaded{}, ErrHelp
	}
	if err != nil {
		var parse *kong.ParseError
		if errors.As(err, &parse) {
			err = parse.Unwrap()
		}
		l.mistakes = append(l.mistakes, err)
	}
	if len(l.mistakes) > 0 {
		return Loaded{}, errors.Join(l.mistakes...)
	}
	return Loaded{Command: command(ctx), Unknown: l.unknown}, nil
}

func command(ctx *kong.Context) string {
	words := strings.Fields(ctx.Command())
	words = slices.DeleteFunc(words, func(w string) bool { return strings.HasPrefix(w, "<") })
	return strings.Join(words, " ")
}

// setting is one flag of the model and its names.
type setting struct {
	flag   *kong.Flag
	owner  string // the command that alone has it, or ""
	envs   []string
	secret bool
}

// loader is one call of Load or Reference.
type loader struct {
	parser   *kong.Kong
	fileFlag struct {
		Config string `help:"A file of settings, one XCORD_NAME=value a line." placeholder:"FILE"`
	}
	settings []*setting
	byEnv    map[string]*setting
	env      map[string]string // XCORD_* of the environment
	file     map[string]string // XCORD_* of the file
	origin   map[*kong.Value]string
	mistakes []error
	unknown  []string
	helped   bool
}

func newLoader(target any, p Program) (*loader, error) {
	l := &loader{byEnv: map[string]*setting{}, env: map[string]string{}, file: map[string]string{}, origin: map[*kong.Value]string{}}
	out := p.Out
	if out == nil {
		out = os.Stdout
	}
	parser, err := kong.New(target,
		kong.Name(p.Name), kong.Description(p.Help), kong.Writers(out, out),
		kong.Exit(func(int) { l.helped = true }),
		kong.Embed(&l.fileFlag),
		kong.Resolvers(kong.ResolverFunc(l.resolve)),
		kong.ValueFormatter(l.help),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
	if err != nil {
		return nil, fmt.Errorf("BUG: the settings of %s: %w", p.Name, err)
	}
	l.parser = parser
	l.collect(parser.Model.Node, "")
	return l, nil
}

// collect lists the flags below a node and puts a recorder around each, so that one bad value does not hide the next.
func (l *loader) collect(node *kong.Node, owner string) {
	for _, f := range node.Flags {
		if f.Name == "help" {
			continue
		}
		s := &setting{flag: f, owner: owner, envs: f.Tag.Envs, secret: isSecret(f.Target.Type())}
		switch {
		case len(s.envs) == 0:
			s.envs = []string{envPrefix + strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(f.Name))}
		case s.envs[0] == "-":
			s.envs = nil
		}
		// kong reads the environment of the process by itself, and stops at its first mistake: not here.
		f.Tag.Envs, f.Envs = nil, nil
		f.Hidden = f.Hidden || s.secret
		f.Mapper = &recorder{Mapper: f.Mapper, loader: l}
		l.settings = append(l.settings, s)
		for _, env := range s.envs {
			l.byEnv[env] = s
			if s.secret {
				l.byEnv[env+"_FILE"] = s
			}
		}
	}
	for _, child := range node.Children {
		l.collect(child, strings.TrimSpace(owner+" "+child.Name))
	}
}

func (l *loader) mistake(format string, args ...any) {
	l.mistakes = append(l.mistakes, fmt.Errorf(format, args...))
}

// help adds the variable's name to what --help says about a flag.
func (l *loader) help(v *kong.Value) string {
	for _, s := range l.settings {
		if s.flag.Value == v && len(s.envs) > 0 {
			return fmt.Sprintf("%s ($%s)", v.Help, s.envs[0])
		}
	}
	return v.Help
}
