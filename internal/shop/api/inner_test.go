package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/evdemo/evdemo/internal/shop"
)

// A client that asks for too much takes nothing from the others, and forgetting some does not grow without end.
func TestClientsHaveTheirOwnLimits(t *testing.T) {
	t.Parallel()
	l := newLimits(0, 2)
	for _, remote := range []string{"192.0.2.1:1", "192.0.2.2:1", "[2001:db8::1]:1", "[2001:db8:0:1::1]:1", "no address"} {
		require.Zero(t, l.take(remote), remote)
		require.Zero(t, l.take(remote), remote)
		require.Positive(t, l.take(remote), remote)
	}
	require.Positive(t, l.take("192.0.2.1:2"), "another port is the same client")
	require.Positive(t, l.take("[::ffff:192.0.2.1]:1"), "and so is the same address, written otherwise")
	require.Positive(t, l.take("[2001:db8::ffff]:9"), "and another one of the same network")
	for i := range 3 * maxClients {
		l.take(fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255))
	}
	require.Equal(t, maxClients, l.clients.Len())
}

func TestWhoAsksTooMuchTakesNothingFromAll(t *testing.T) {
	t.Parallel()
	l := newLimits(3, 1)
	require.Zero(t, l.take("192.0.2.1:1"))
	for range 100 {
		require.LessOrEqual(t, l.take("192.0.2.1:1"), time.Second)
	}
	require.Zero(t, l.take("192.0.2.2:1"))
	require.Zero(t, l.take("192.0.2.3:1"))
	require.Positive(t, l.take("192.0.2.4:1"))
	require.Equal(t, netip.Addr{}, clientOf(""))
}

// values are JSON values, with white space between what they are made of.
func values() *rapid.Generator[string] {
	space := rapid.SampledFrom([]string{"", " ", "\n\t", "\r "})
	name := rapid.SampledFrom([]string{`""`, `"a"`, `"a\"b"`, `"\\"`, `"[{,:}]"`, `"\u0061"`, `"ä"`})
	value := rapid.OneOf(name, rapid.SampledFrom([]string{"0", "-1.5e+7", "true", "false", "null", "[]", "{}"}))
	for range 3 {
		inner := value
		value = rapid.Custom(func(t *rapid.T) string {
			s := func() string { return space.Draw(t, "space") }
			var parts []string
			object := rapid.Bool().Draw(t, "object")
			for range rapid.IntRange(0, 3).Draw(t, "n") {
				part := s() + inner.Draw(t, "value") + s()
				if object {
					part = s() + name.Draw(t, "name") + s() + ":" + part
				}
				parts = append(parts, part)
			}
			if object {
				return "{" + s() + strings.Join(parts, ",") + "}"
			}
			return "[" + s() + strings.Join(parts, ",") + "]"
		})
	}
	return value
}

// What the scanner finds is what encoding/json does, to the letter.
func TestScannerProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		raw := []byte(values().Draw(t, "value"))
		require.True(t, json.Valid(raw), "%s", raw)
		checkScan(t, raw)
	})
}

// checkScan compares what the scanner makes of a value, and of all within it, with encoding/json.
func checkScan(t require.TestingT, raw []byte) {
	require.Equal(t, len(raw), endOf(raw, 0), "%s", raw)
	switch raw[0] {
	case '{':
		decoder := json.NewDecoder(bytes.NewReader(raw))
		_, err := decoder.Token()
		require.NoError(t, err)
		for name, value := range members(raw) {
			want, err := decoder.Token()
			require.NoError(t, err)
			require.Equal(t, want, name)
			var same json.RawMessage
			require.NoError(t, decoder.Decode(&same))
			require.Equal(t, string(same), string(value))
			checkScan(t, value)
		}
		require.False(t, decoder.More())
	case '[':
		var want []json.RawMessage
		require.NoError(t, json.Unmarshal(raw, &want))
		n := 0
		for i, value := range elements(raw) {
			require.Equal(t, n, i)
			require.Equal(t, string(want[i]), string(value))
			checkScan(t, value)
			n++
		}
		require.Len(t, want, n)
	case '"':
		var want string
		require.NoError(t, json.Unmarshal(raw, &want))
		require.Equal(t, want, text(raw))
	}
}

func TestIntegerProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(-1<<40, 1<<40).Draw(t, "n")
		for _, text := range []string{fmt.Sprint(n), fmt.Sprintf("%d.0", n), fmt.Sprintf("%d.000e0", n), fmt.Sprintf("%d00e-2", n)} {
			got, ok := integer([]byte(text))
			require.True(t, ok, text)
			require.Equal(t, n, got, text)
		}
		_, ok := integer(fmt.Appendf(nil, "%d.5", n))
		require.False(t, ok)
	})
	for _, not := range []string{"true", "null", "[1]", "{}", "1e999", "-1e999", "9223372036854775808", "1e-1", "18446744073709551616"} {
		_, ok := integer([]byte(not))
		require.False(t, ok, not)
	}
}

// Requests that ask for the same have one fingerprint, however they are written, and others have others.
func TestFingerprints(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, body := range []string{
		`{"user_id":"a","items":["item-1"]}`, `{"user_id":"a","items":["item-2"]}`, `{"user_id":"a","items":["item-1","item-2"]}`,
		`{"user_id":"a","items":["item-2","item-1"]}`, `{"user_id":"a","items":[{"sku":"item-1","quantity":2}]}`,
		`{"user_id":"a","items":[{"sku":"item-1","price":50}]}`, `{"user_id":"b","items":["item-1"]}`, `{"user_id":"a\"item-1\"1","items":["item-2"]}`,
		`{"user_id":"a","items":[{"sku":"item-1","quantity":12}]}`,
	} {
		q, bad := parse([]byte(body))
		require.Nil(t, bad)
		require.Empty(t, seen[q.hash()], body)
		seen[q.hash()] = body
	}
	one, _ := parse([]byte(`{"user_id":"a","items":[{"sku":"item-1","quantity":1.0}]}`))
	require.NotEmpty(t, seen[one.hash()])
}

func TestOrderIDs(t *testing.T) {
	t.Parallel()
	require.True(t, isOrderID(newOrderID("")))
	one, other := newOrderID(""), newOrderID("")
	require.NotEqual(t, one, other)
	require.True(t, isOrderID(newOrderID("key")))
	require.NotEqual(t, newOrderID("key"), newOrderID("Key"))
	// Orders that were placed with a key by another version must be found by this one.
	require.Equal(t, "order-f6e9c4be-c140-5730-901d-3b83315966b2", newOrderID("8e03978e-40d5-43dd-bc93-6894a57f9324"))
}

// FuzzRequest has no input make the program panic, or accept what it should not.
func FuzzRequest(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		q, bad := parse(body)
		if bad != nil {
			if bad.Status != http.StatusBadRequest && bad.Status != http.StatusUnprocessableEntity {
				t.Fatalf("status %d", bad.Status)
			}
			return
		}
		require.True(t, json.Valid(body))
		require.NotEmpty(t, q.userID)
		write, err := q.write("order-1", q.hash())
		require.NoError(t, err)
		require.NoError(t, write.Events[0].Validate())
		var order shop.Order
		require.NoError(t, json.Unmarshal(write.Events[0].Data, &order))
		require.Equal(t, q.userID, order.UserID)
		amount := 0
		for _, item := range order.Items {
			require.NotEmpty(t, item.SKU)
			require.GreaterOrEqual(t, item.Price, 0)
			require.Positive(t, item.Quantity)
			amount += item.Price * item.Quantity
		}
		require.Equal(t, amount, order.Amount)
	})
}

// FuzzKey has keys read one way: what is read, written in quotes, is the same key.
func FuzzKey(f *testing.F) {
	f.Fuzz(func(t *testing.T, value string) {
		key, err := keyOf(http.Header{keyHeader: {value}})
		if err != nil {
			return
		}
		require.NotEmpty(t, key)
		require.LessOrEqual(t, len(key), maxKey)
		quoted := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(key) + `"`
		again, err := keyOf(http.Header{keyHeader: {quoted}})
		require.NoError(t, err)
		require.Equal(t, key, again)
	})
}
