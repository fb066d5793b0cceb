package cmd

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Every flag of every command can be given as an environment variable.
func TestEveryFlagHasAVariable(t *testing.T) {
	t.Parallel()
	reserved := []string{"EVDEMO_CONFIG", "EVDEMO_STATE_DIR"}
	values := map[string]string{
		"string": "x", "bool": "true", "int": "7", "int64": "7", "uint64": "7", "float64": "0.25", "duration": "7s",
		"stringArray": "[a=b]", "stringSlice": "[a,b]", "stringToString": "[a=b]", "format": "json",
	}
	for cmd := range commands(newRootCommand(&App{})) {
		flags := cmd.Flags()
		flags.AddFlagSet(cmd.InheritedFlags())
		flags.VisitAll(func(f *pflag.Flag) {
			if f.Name == "help" {
				return
			}
			name, want := envName(f.Name), values[f.Value.Type()]
			if !assert.NotEmpty(t, want, "no value for a flag of type %s", f.Value.Type()) {
				return
			}
			assert.NotContains(t, reserved, name, cmd.CommandPath())
			if f.Name == "format" {
				want = "dot" // of "topology graph"
			}
			c := newCommandLine(map[string]string{name: strings.Trim(want, "[]")})
			require.NoError(t, c.app.settleFromEnv(flags), "%s, %s", cmd.CommandPath(), name)
			assert.Equal(t, want, f.Value.String(), "%s, %s", cmd.CommandPath(), name)
			assert.True(t, f.Changed)
		})
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	env := map[string]string{
		"EVDEMO_TOPIC": "t", "EVDEMO_RATE": "2.5", "EVDEMO_COUNT": "3", "EVDEMO_SEED": "18446744073709551615", "EVDEMO_HEADER": "a=b",
		"EVDEMO_NO_DECLARE": "true", "EVDEMO_DRAIN_TIMEOUT": "1m", "EVDEMO_OUTPUT": "json", "EVDEMO_CONNECT_TIMEOUT": "3s", "EVDEMO_QUIET": "1",
	}
	c := newCommandLine(env)
	o, code := parsePublish(t, c)
	require.Equal(t, exitOK, code, &c.err)
	assert.Equal(t, "t", o.topic)
	assert.InDelta(t, 2.5, o.rate, 0)
	assert.Equal(t, 3, o.count)
	assert.True(t, o.given("count"), "a variable gives a flag as the command line does")
	assert.Equal(t, ^uint64(0), o.seed)
	assert.Equal(t, map[string]any{"a": "b"}, o.header)
	assert.True(t, o.noDeclare)
	assert.Equal(t, time.Minute, o.drainTimeout)
	assert.True(t, o.output.json())
	assert.Equal(t, 3*time.Second, c.app.global.connectTimeout)
	assert.True(t, c.app.global.quiet)

	c = newCommandLine(env)
	o, code = parsePublish(t, c, "--topic", "mine", "--count", "5", "--header", "c=d", "--no-declare=false", "-o", "table", "-q=false", "--connect-timeout", "4s")
	require.Equal(t, exitOK, code, &c.err)
	assert.Equal(t, "mine", o.topic)
	assert.Equal(t, 5, o.count)
	assert.Equal(t, map[string]any{"c": "d"}, o.header)
	assert.False(t, o.noDeclare || o.output.json() || c.app.global.quiet)
	assert.Equal(t, 4*time.Second, c.app.global.connectTimeout)

	c = newCommandLine(map[string]string{"EVDEMO_TOPIC": "", "EVDEMO_COUNT": "", "EVDEMO_QUIET": "", "EVDEMO_HELP": "true", "EVDEMO_NONSENSE": "1"})
	o, code = parsePublish(t, c)
	require.Equal(t, exitOK, code, "an empty variable is not set: %s", &c.err)
	assert.Equal(t, "orders", o.topic)
	assert.False(t, o.given("topic"))
}

func TestEnvironmentMistakes(t *testing.T) {
	t.Parallel()
	c := newCommandLine(map[string]string{
		"EVDEMO_COUNT": "many", "EVDEMO_RATE": "fast", "EVDEMO_SEED": "-1", "EVDEMO_STREAM": "maybe", "EVDEMO_OUTPUT": "xml",
		"EVDEMO_CONNECT_TIMEOUT": "5",
	})
	o, code := parsePublish(t, c)
	assert.Nil(t, o)
	requireMistake(t, c, code, `environment variable EVDEMO_COUNT: invalid argument "many" for "--count" flag`)
	for _, name := range []string{"RATE", "SEED", "STREAM", "OUTPUT", "CONNECT_TIMEOUT"} {
		assert.Contains(t, c.err.String(), "environment variable EVDEMO_"+name+": invalid argument", "all of them at once")
	}
	c = newCommandLine(map[string]string{"EVDEMO_TOPIC": "a"})
	_, code = parsePublish(t, c, "--queue", "b")
	requireMistake(t, c, code, "give one of --topic, --queue and --raw-exchange")
	c = newCommandLine(map[string]string{"EVDEMO_LOG_FORMAT": "xml"})
	_, code = parsePublish(t, c)
	requireMistake(t, c, code, `--log-format "xml": want text or json`)
}

// withProfiles is an environment whose configuration file has the content.
func withProfiles(t *testing.T, content string, env map[string]string) map[string]string {
	t.Helper()
	home := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(home, ".config", "evdemo"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(home, ".config", "evdemo", "config.yaml"), []byte(content), 0o600))
	all := map[string]string{"HOME": home}
	maps.Copy(all, env)
	return all
}

func TestURLOrder(t *testing.T) {
	t.Parallel()
	const profiles = "profile: p\nprofiles: {p: {url: amqp://profile}, alias: {uri: amqp://alias}, none: {}}\n"
	tests := []struct {
		name, args, want string
		env              map[string]string
	}{
		{"flag", "--url amqp://flag", "amqp://flag", map[string]string{"EVDEMO_URL": "amqp://variable", "AMQP_URL": "amqp://amqp"}},
		{"alias", "--uri amqp://flag", "amqp://flag", map[string]string{"EVDEMO_URL": "amqp://variable"}},
		{"the last of two", "--uri amqp://one --url amqp://two", "amqp://two", nil},
		{"variable", "", "amqp://variable", map[string]string{"EVDEMO_URL": "amqp://variable", "AMQP_URL": "amqp://amqp"}},
		{"AMQP_URL", "", "amqp://amqp", map[string]string{"AMQP_URL": "amqp://amqp"}},
		{"AMQP_URL and a profile", "--profile alias", "amqp://amqp", map[string]string{"AMQP_URL": "amqp://amqp"}},
		{"profile of the file", "", "amqp://profile", map[string]string{"AMQP_URL": "", "EVDEMO_URL": ""}},
		{"profile of the flag", "--profile alias", "amqp://alias", map[string]string{"EVDEMO_PROFILE": "p"}},
		{"profile of the variable", "", "amqp://alias", map[string]string{"EVDEMO_PROFILE": "alias"}},
		{"none at all", "--profile none", "amqp://guest:guest@localhost:5672/", nil},
		{"several", "--url amqp://a,amqp://b", "amqp://a,amqp://b", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newCommandLine(withProfiles(t, profiles, test.env))
			_, code := parsePublish(t, c, strings.Fields(test.args)...)
			require.Equal(t, exitOK, code, &c.err)
			broker, err := c.app.broker()
			require.NoError(t, err)
			assert.Equal(t, test.want, strings.Join(broker.URLs, ","))
		})
	}
}

func TestProfile(t *testing.T) {
	t.Parallel()
	const profiles = `profiles:
  all:
    url: amqp://p
    connect-timeout: 7s
    quiet: true
    log-format: json
    tls-ca: ca.pem
    tls-insecure: false
`
	c := newCommandLine(withProfiles(t, profiles, nil))
	_, code := parseWork(t, c, "--queue", "q", "--profile", "all")
	require.Equal(t, exitOK, code, &c.err)
	want := globalOptions{connectTimeout: 7 * time.Second, quiet: true, logFormat: "json", tlsCA: "ca.pem", profile: "all", profileURL: "amqp://p"}
	assert.Equal(t, want, c.app.global)

	c = newCommandLine(withProfiles(t, profiles, map[string]string{"EVDEMO_CONNECT_TIMEOUT": "6s", "EVDEMO_PROFILE": "all"}))
	_, code = parseWork(t, c, "--queue", "q", "--log-format", "text", "-q=false")
	require.Equal(t, exitOK, code, &c.err)
	assert.Equal(t, 6*time.Second, c.app.global.connectTimeout, "a variable beats a profile")
	assert.Equal(t, "text", c.app.global.logFormat, "a flag beats a profile")
	assert.False(t, c.app.global.quiet)
	assert.Equal(t, "ca.pem", c.app.global.tlsCA)

	c = newCommandLine(withProfiles(t, "", nil))
	_, code = parseWork(t, c, "--queue", "q")
	require.Equal(t, exitOK, code, "an empty file is no mistake: %s", &c.err)
	for _, env := range []map[string]string{{}, {"HOME": t.TempDir()}, {"HOME": ""}, {"XDG_CONFIG_HOME": t.TempDir()}} {
		c = newCommandLine(env)
		_, code = parseWork(t, c, "--queue", "q")
		require.Equal(t, exitOK, code, "no file is no mistake: %s", &c.err)
	}
}

func TestProfileMistakes(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, file, args, text string }{
		{"unknown profile", "profiles: {a: {}}", "--profile b", `no profile "b" in `},
		{"unknown profile of the file", "profile: b\nprofiles: {a: {}}", "", `no profile "b" in `},
		{"unknown key", "profiles: {a: {qeue: x, urll: y}}", "--profile a", "profile a: \"qeue\" is not a flag of every command\nprofile a: \"urll\" is not"},
		{"flag of one command", "profiles: {a: {queue: x}}", "--profile a", `profile a: "queue" is not a flag of every command`},
		{"profile in a profile", "profiles: {a: {profile: b}}", "--profile a", `profile a: "profile" is not a flag of every command`},
		{"help in a profile", "profiles: {a: {help: true}}", "--profile a", `profile a: "help" is not a flag of every command`},
		{"bad value", "profiles: {a: {connect-timeout: soon}}", "--profile a", `profile a: connect-timeout: invalid argument "soon"`},
		{"unknown section", "profilez: {}", "", `config.yaml: [1:1] unknown field "profilez"`},
		{"no mapping", "- a", "", "config.yaml: [1:1] "},
		{"no YAML", "profiles:\n  a:\n    url: amqp://u:sEcret@h\n   bad\n", "", "config.yaml: [4:4] "},
		{"list for a value", "profiles:\n  a:\n    url: [amqp://u:sEcret@h]\n", "", "config.yaml: [3:10] "},
		{"URL", "profiles: {a: {url: 'amqp://u:sEcret@h:port'}}", "--profile a", "invalid broker URL: it cannot be read"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newCommandLine(withProfiles(t, test.file, nil))
			code := c.run(t, append([]string{"doctor"}, strings.Fields(test.args)...)...)
			requireMistake(t, c, code, test.text)
			assert.NotContains(t, c.err.String(), "sEcret")
		})
	}
	c := newCommandLine(map[string]string{"HOME": t.TempDir()})
	requireMistake(t, c, c.run(t, "doctor", "--profile", "a"), "read profiles: open ")
	c = newCommandLine(map[string]string{"EVDEMO_CONFIG": filepath.Join(t.TempDir(), "missing.yaml")})
	requireMistake(t, c, c.run(t, "doctor"), "no such file or directory")
	c = newCommandLine(map[string]string{"EVDEMO_CONFIG": t.TempDir()})
	requireMistake(t, c, c.run(t, "doctor"), "is a directory")
	c = newCommandLine(nil)
	requireMistake(t, c, c.run(t, "doctor", "--profile", "a"), "read profiles: ")
}

// Whatever is wrong with a URL, nothing of its password is said. Most passwords that break a URL hold
// a character that should have been percent-encoded.
func TestBrokenURLsKeepTheirPassword(t *testing.T) {
	t.Parallel()
	urls := []string{
		"http://guest:sEcret@localhost/", "guest:sEcret@localhost", "amqp:/guest:sEcret@localhost", "amqp://guest:123/sEcret@localhost/",
		"amqp://guest:sEc%ret@localhost/", "amqp://guest:sEc ret@localhost/", "amqp://guest:sEc/ret@localhost/", "amqp://guest:sEc?ret@localhost/",
		"amqp://guest:sEc#ret@localhost/", "amqp://guest:sEc[ret@localhost/", "amqp://guest:sEcret@localhost:port/", "amqp://guest:sEcret@[::1/",
		"amqp://guest:sEcret@localhost/?heartbeat=often", "amqp://guest:sEcret@localhost/?heartbeat=-1", "amqp://guest:sEcret@localhost/?auth_mechanism=NONE",
		"amqp://guest:sEc,ret@localhost/", " , ", "amqp://guest:\x00sEcret@localhost/",
	}
	for _, url := range urls {
		for _, command := range []string{"doctor -v", "publish -v --count 1", "work -v --queue q", "listen -v --topic t", "demo -v", "topology plan -v"} {
			c := newCommandLine(map[string]string{"EVDEMO_URL": url, "EVDEMO_CONNECT_TIMEOUT": "10ms"})
			code := c.run(t, strings.Fields(command)...)
			assert.Equal(t, exitUsage, code, "%s %q: %s", command, url, &c.err)
			said := strings.ToLower(c.err.String() + c.out.String())
			assert.NotContains(t, said, "sec", "%s %q", command, url)
			assert.NotContains(t, said, "ret@", "%s %q", command, url)
		}
	}
}

func TestTLSSettings(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "no.pem")
	require.NoError(t, os.WriteFile(file, []byte("no PEM"), 0o600))
	tests := []struct{ args, text string }{
		{"--tls-ca missing.pem", "read CA certificates: open missing.pem"},
		{"--tls-ca " + file, "holds no PEM certificate"},
		{"--tls-cert " + file, "a client certificate needs both its certificate and its key"},
		{"--tls-key " + file, "a client certificate needs both its certificate and its key"},
		{"--tls-cert " + file + " --tls-key " + file, "read client certificate: "},
	}
	for _, test := range tests {
		c := newCommandLine(nil)
		requireMistake(t, c, c.run(t, append([]string{"doctor", "--url", "amqps://127.0.0.1:1/"}, strings.Fields(test.args)...)...), test.text)
	}
	c := newCommandLine(nil)
	require.Equal(t, exitUnreachable, c.run(t, "doctor", "--url", "amqps://127.0.0.1:1/", "--tls-insecure", "-q"))
	assert.Contains(t, c.err.String(), "--tls-insecure: the broker's certificate is not verified; anyone in between can read and change everything")
}
