package cmd

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/pflag"

	"github.com/evdemo/evdemo/internal/localbroker"
	"github.com/evdemo/evdemo/internal/session"
	"github.com/evdemo/evdemo/worker/command"
)

const defaultURL = "amqp://guest:guest@localhost:5672/"

// settle gives every flag that was not set on the command line its value from the environment
// or the profile, and checks the flags that all commands share.
func (a *App) settle(flags *pflag.FlagSet) error {
	if err := a.settleFromEnv(flags); err != nil {
		return err
	}
	if err := a.settleFromProfile(flags); err != nil {
		return err
	}
	if a.global.logFormat != "text" && a.global.logFormat != "json" {
		return fmt.Errorf("--log-format %q: want text or json", a.global.logFormat)
	}
	if flags.Changed("url") && a.global.url == "" { // as from an unset variable; another broker is not what was meant
		return errors.New("--url is empty: want amqp://user:password@host:5672/vhost")
	}
	if a.global.quiet && a.global.verbose {
		return errors.New("--quiet and --verbose exclude each other")
	}
	if a.global.connectTimeout <= 0 {
		return fmt.Errorf("--connect-timeout %v: want more than 0", a.global.connectTimeout)
	}
	return nil
}

// envName is the environment variable of a flag.
func envName(flag string) string {
	return "EVDEMO_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

func (a *App) settleFromEnv(flags *pflag.FlagSet) error {
	var errs []error
	// Within the handler of "work --exec", EVDEMO_TYPE is an event's type and not a flag.
	_, handling := a.LookupEnv("EVDEMO_ATTEMPT")
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Changed || f.Name == "help" || handling && command.EventVariable(envName(f.Name)) {
			return
		}
		value, ok := a.LookupEnv(envName(f.Name))
		if !ok || value == "" { // an empty variable is the usual way to unset one
			return
		}
		if err := flags.Set(f.Name, value); err != nil {
			errs = append(errs, fmt.Errorf("environment variable %s: %w", envName(f.Name), err))
		}
	})
	return errors.Join(errs...)
}

// configFile is the file of profiles.
type configFile struct {
	// Profile is used where none is asked for.
	Profile string `yaml:"profile"`
	// Profiles maps names to values of the flags that all commands share.
	Profiles map[string]map[string]string `yaml:"profiles"`
}

func (a *App) settleFromProfile(flags *pflag.FlagSet) error {
	path, named := a.configPath()
	if path == "" && a.global.profile == "" {
		return nil
	}
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && !named && a.global.profile == "" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read profiles: %w", err)
	}
	var config configFile
	if err := yaml.UnmarshalWithOptions(content, &config, yaml.Strict()); err != nil {
		// Without the excerpt of the file, which may show a password.
		return fmt.Errorf("read profiles: %s: %s", path, yaml.FormatError(err, false, false))
	}
	name := a.global.profile
	if name == "" {
		name = config.Profile
	}
	if name == "" {
		return nil
	}
	values, ok := config.Profiles[name]
	if !ok {
		return fmt.Errorf("no profile %q in %s", name, path)
	}
	return a.applyProfile(flags, name, values)
}

func (a *App) applyProfile(flags *pflag.FlagSet, name string, values map[string]string) error {
	var shared pflag.FlagSet
	new(globalOptions).addFlags(&shared)
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if key == "url" || key == "uri" {
			a.global.profileURL = values[key]
			continue
		}
		if shared.Lookup(key) == nil || key == "profile" {
			errs = append(errs, fmt.Errorf("profile %s: %q is not a flag of every command", name, key))
			continue
		}
		if flags.Lookup(key).Changed {
			continue
		}
		if err := flags.Set(key, values[key]); err != nil {
			errs = append(errs, fmt.Errorf("profile %s: %s: %w", name, key, err))
		}
	}
	return errors.Join(errs...)
}

func (a *App) configPath() (path string, named bool) {
	if path, ok := a.LookupEnv("EVDEMO_CONFIG"); ok && path != "" {
		return path, true
	}
	dir, ok := a.LookupEnv("XDG_CONFIG_HOME")
	if !ok || dir == "" {
		home, ok := a.LookupEnv("HOME")
		if !ok || home == "" {
			return "", false
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "evdemo", "config.yaml"), false
}

// brokerSettings is where the broker is, in the form that the packages take.
type brokerSettings struct {
	URLs []string
	TLS  *tls.Config
}

// broker finds the broker and loads the TLS files.
func (a *App) broker() (brokerSettings, error) {
	b := brokerSettings{URLs: session.SplitURLs(a.brokerURL())}
	if err := (session.Config{URLs: b.URLs}).Check(); err != nil {
		return b, err
	}
	g := &a.global
	if g.tlsCA == "" && g.tlsCert == "" && g.tlsKey == "" && !g.tlsInsecure {
		return b, nil
	}
	config, err := session.LoadTLS(g.tlsCA, g.tlsCert, g.tlsKey)
	if err != nil {
		return b, usageError(err)
	}
	if g.tlsInsecure {
		config.InsecureSkipVerify = true //nolint:gosec // asked for by the user, and said loudly
		a.Logger().Warn("--tls-insecure: the broker's certificate is not verified; anyone in between can read and change everything")
	}
	b.TLS = config
	return b, nil
}

func (a *App) brokerURL() string {
	if a.global.url != "" {
		return a.global.url
	}
	if url, ok := a.LookupEnv("AMQP_URL"); ok && url != "" {
		return url
	}
	if a.global.profileURL != "" {
		return a.global.profileURL
	}
	if dir, err := localbroker.StateDir(a.LookupEnv); err == nil {
		if node, err := localbroker.Running(dir); err == nil {
			return node.URL()
		}
	}
	return defaultURL
}
