package cmd

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/evdemo/evdemo/internal/session"
	"github.com/evdemo/evdemo/topology"
)

func TestThousands(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{
		0: "0", 7: "7", 999: "999", 1000: "1,000", 12345: "12,345", 123456: "123,456", 1234567: "1,234,567",
		-1: "-1", -999: "-999", -1000: "-1,000", -123456: "-123,456",
		math.MaxInt64: "9,223,372,036,854,775,807", math.MinInt64: "-9,223,372,036,854,775,808",
	} {
		assert.Equal(t, want, thousands(n))
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64().Draw(t, "n")
		text := thousands(n)
		require.Regexp(t, `^-?\d{1,3}(,\d{3})*$`, text)
		require.Equal(t, strconv.FormatInt(n, 10), strings.ReplaceAll(text, ",", ""))
	})
}

func TestPrintable(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "", "plain": "plain", "0123456789": "0123456789", "0123456789a": "0123456789…",
		"a\tb\nc\rd": "a b c d", "\x1b[2Jx": " [2Jx", "\x00\x7f": "  ", "\u0085\u009b": "  ", "\xff": "�", "日本": "日本",
	} {
		assert.Equal(t, want, printable(text, 10), "%q", text)
	}
	rapid.Check(t, func(t *rapid.T) {
		text := string(rapid.SliceOf(rapid.Byte()).Draw(t, "text"))
		most := rapid.IntRange(1, 30).Draw(t, "most")
		got := printable(text, most)
		require.True(t, utf8.ValidString(got))
		require.Equal(t, -1, strings.IndexFunc(got, unicode.IsControl))
		require.LessOrEqual(t, utf8.RuneCountInString(got), most+1)
		require.Equal(t, utf8.RuneCountInString(text) > most, strings.HasSuffix(got, "…"))
	})
}

// failing writes nothing and tells.
type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// Output that is lost is never a success, whichever command had it to say.
func TestLostOutputIsAFailure(t *testing.T) {
	t.Parallel()
	lost := errors.New("disk full")
	for _, args := range []string{"version", "help", "publish --help", "completion bash", "topology show", "topology graph", "publish --count 2 --dry-run"} {
		c := newCommandLine(nil)
		c.app.Out = failing{lost}
		assert.Equal(t, exitFailed, c.run(t, strings.Fields(args)...), args)
		assert.Contains(t, c.err.String(), ": disk full\n", args)
		assert.Equal(t, 1, strings.Count(c.err.String(), "disk full"), args)
	}
}

func TestExitCode(t *testing.T) {
	t.Parallel()
	plain := errors.New("x")
	tests := []struct {
		err  error
		want int
	}{
		{nil, 0},
		{plain, 1},
		{usageError(plain), 2},
		{usageErrorf("a: %w", plain), 2},
		{fmt.Errorf("a: %w", usageError(plain)), 2},
		{&exitError{exitIncomplete, plain}, 3},
		{&exitError{exitUnreachable, &reportedError{plain}}, 4},
		{&exitError{exitClaim, plain}, 5},
		{fmt.Errorf("a: %w", session.ErrURL), 2},
		{fmt.Errorf("a: %w", session.ErrUnreachable), 4},
		{&session.DialError{Kind: session.ErrLogin, Err: plain}, 4},
		{&session.DialError{Kind: session.ErrUnreachable, Err: plain}, 4},
		{fmt.Errorf("a: %w", &topology.InvalidError{}), 2},
		{fmt.Errorf("a: %w", &topology.ConflictError{}), 1},
		{errors.Join(plain, &exitError{exitClaim, plain}), 5},
	}
	for _, test := range tests {
		assert.Equal(t, test.want, exitCode(test.err), "%v", test.err)
	}
	require.ErrorIs(t, usageError(plain), plain)
	require.ErrorIs(t, &reportedError{plain}, plain)
}
