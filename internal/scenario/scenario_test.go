package scenario_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/cmd"
	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/internal/scenario"
	"github.com/evdemo/evdemo/internal/stage"
)

// Each scenario is played as a person would: its fault shows, and what is to hold holds. None leaves anything behind.
func TestScenarios(t *testing.T) {
	t.Parallel()
	node := brokertest.Node(t)
	executable := brokertest.Evdemo(t)
	t.Run("each", func(t *testing.T) {
		for _, s := range scenario.All() {
			t.Run(s.Name, func(t *testing.T) {
				t.Parallel()
				seed := uint64(time.Now().UnixNano() % 1_000_000)
				t.Logf("seed %d", seed)
				var screen strings.Builder
				report, err := stage.Run(t.Context(), s, stage.Config{
					Executable: executable, URLs: []string{node.URL()}, ConnectTimeout: 30 * time.Second, Seed: seed, Screen: &screen,
					Environment: func(url string) []string {
						return append(os.Environ(), "EVDEMO_URL="+url)
					},
				})
				require.NoError(t, err, &screen)
				report.Text(&screen)
				for _, claim := range report.Claims {
					assert.True(t, claim.Holds, "%s (%s)\n%s", claim.Text, claim.Figures, &screen)
				}
				for _, claim := range s.Claims {
					for _, figure := range claim.By {
						assert.True(t, decides(figure, claim, report), "%s has no part in this claim: %s", figure, claim.Text)
					}
				}
			})
		}
	})
	for _, kind := range []string{"list_queues", "list_exchanges"} {
		left, err := node.Ctl(t.Context(), kind, "name")
		require.NoError(t, err)
		assert.NotContains(t, left, "demo-")
	}
}

// decides tells whether a claim does not hold with another value of a figure, in one of the modes in which it was measured.
func decides(figure string, claim stage.Claim, report stage.Report) bool {
	for _, mode := range []stage.Mode{stage.Broken, stage.Fixed} {
		for _, other := range []float64{0, 1e12} {
			was, now := stage.Figures{}, stage.Figures{}
			for _, f := range report.Figures {
				if f.Was != nil {
					was[f.Name] = *f.Was
				}
				if f.Now != nil {
					now[f.Name] = *f.Now
				}
			}
			figures := map[stage.Mode]stage.Figures{stage.Broken: was, stage.Fixed: now}[mode]
			if _, measured := figures[figure]; !measured {
				continue
			}
			figures[figure] = other
			if !claim.Holds(was, now) {
				return true
			}
		}
	}
	return false
}

// What a person reads of a scenario is all there.
func TestScenariosAreWhole(t *testing.T) {
	t.Parallel()
	sentence := regexp.MustCompile(`[.:] ?[A-Z"]`)
	names := map[string]bool{}
	for _, s := range scenario.All() {
		assert.Regexp(t, `^[a-z]+(-[a-z]+)*$`, s.Name)
		assert.False(t, names[s.Name], "%s is there twice", s.Name)
		names[s.Name] = true
		assert.NotEmpty(t, s.Title, s.Name)
		assert.NotRegexp(t, `\.$`, s.Title, s.Name)
		assert.Len(t, sentence.Split(s.Lesson, -1), 3, "sentences of the lesson of %s", s.Name)
		for _, text := range []string{s.Lesson, s.Broken, s.Fixed} {
			assert.Regexp(t, `\.$`, text, s.Name)
		}
		for _, mode := range []string{"Broken: ", "Fixed: "} {
			assert.True(t, slices.ContainsFunc(s.Claims, func(c stage.Claim) bool { return strings.HasPrefix(c.Text, mode) }), "%s claims nothing of %s", s.Name, mode)
		}
		for _, c := range s.Claims {
			assert.NotEmpty(t, c.By, c.Text)
			for _, key := range c.By {
				assert.True(t, slices.ContainsFunc(s.Figures, func(f stage.Figure) bool { return f.Key == key }), "%s: no figure %q", s.Name, key)
			}
		}
		assert.NotEmpty(t, s.Try, s.Name)
		for _, line := range s.Try {
			assert.Regexp(t, `^(evdemo|curl|echo) `, line, s.Name)
		}
	}
}

// The command lines by which to go on are some that evdemo takes.
func TestWhatToTryIsTaken(t *testing.T) {
	t.Parallel()
	for _, s := range scenario.All() {
		for _, line := range s.Try {
			commands, _, _ := strings.Cut(line, " #")
			for command := range strings.SplitSeq(strings.NewReplacer(" & ", ";", " | ", ";").Replace(commands), ";") {
				args := words(command)
				if len(args) == 0 || args[0] != "evdemo" {
					continue
				}
				app := &cmd.App{In: strings.NewReader(""), Out: &strings.Builder{}, Err: &strings.Builder{}, LookupEnv: func(string) (string, bool) { return "", false }}
				code := cmd.Run(t.Context(), app, append(args[1:], "--help"))
				assert.Zero(t, code, "%s: %s\n%s", s.Name, command, app.Err)
			}
		}
	}
}

// words are the words of a simple command, of which some are in single quotes.
func words(command string) (args []string) {
	for i, part := range strings.Split(command, "'") {
		if i%2 == 1 {
			args = append(args, part)
			continue
		}
		args = append(args, strings.Fields(part)...)
	}
	return args
}
