package ingress

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const aStandardSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// What the specification's own libraries are tested with.
func TestStandardSignsAsTheSpecificationDoes(t *testing.T) {
	t.Parallel()
	const id, body = "msg_p5jXN8AQM9LWM0D4loKWxJek", `{"test": 2432232314}`
	header, err := SignStandard(aStandardSecret, id, []byte(body), time.Unix(1614265330, 0))
	require.NoError(t, err)
	require.Equal(t, http.Header{
		"Webhook-Id": {id}, "Webhook-Timestamp": {"1614265330"}, "Webhook-Signature": {"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
	}, header)
	require.True(t, standardVerifies(t, header, body, aStandardSecret))
	require.True(t, standardVerifies(t, header, body, " MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n"), "the prefix and white space do not count")
	require.False(t, standardVerifies(t, header, body+" ", aStandardSecret))
}

func standardVerifies(t *testing.T, header http.Header, body string, secrets ...string) bool {
	t.Helper()
	s, err := newStandardScheme(SMS, secrets)
	require.NoError(t, err)
	c, err := s.claim(header)
	require.NoError(t, err)
	return s.verify(c, []byte(body))
}

func TestStandardHeaders(t *testing.T) {
	t.Parallel()
	const time, v1 = "1700000000", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	const noID = "the header Webhook-Id is not an id: it has up to 200 letters, digits and signs without full stops"
	const unsigned = "the request is not signed: the header Webhook-Signature has none that begins with v1 and a comma"
	for _, c := range []struct{ id, time, signature, want string }{
		{"msg_1", time, v1, ""},
		{strings.Repeat("x", 200), time, "v1a,ed25519 " + v1 + "  v2,x", ""},
		{"msg_1", time, strings.Repeat(v1+" ", 16), ""},
		{"msg_1", time, strings.Repeat(v1+" ", 17), "the header Webhook-Signature has more than 16 signatures"},
		{strings.Repeat("x", 201), time, v1, noID},
		{"", time, v1, noID},
		{"msg.1", time, v1, noID},
		{"msg 1", time, v1, noID},
		{"msg_1, msg_2", time, v1, noID},
		{"msg\x00", time, v1, noID},
		{"mßg", time, v1, noID},
		{"msg_1", "", v1, "the time of signing is not in Unix seconds"},
		{"msg_1", "2026-11-28T10:15:00Z", v1, "the time of signing is not in Unix seconds"},
		{"msg_1", "1700000000.5", v1, "the time of signing is not in Unix seconds"},
		{"msg_1", "1700000000000", v1, "the time of signing is not in Unix seconds"}, // milliseconds
		{"msg_1", time, "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", unsigned},
		{"msg_1", time, "v1=abc", unsigned},
		{"msg_1", time, "V1,abc", unsigned},
		{"msg_1", time, "v2," + v1, unsigned},
		{"msg_1", time, " ", unsigned},
	} {
		got, err := parseStandard(c.id, c.time, c.signature)
		if c.want == "" {
			require.NoError(t, err, c)
			require.Equal(t, c.id, got.id)
		} else {
			require.EqualError(t, err, c.want, c)
		}
	}
}

func TestStandardHeadersThere(t *testing.T) {
	t.Parallel()
	s, err := newStandardScheme(Mail, []string{aStandardSecret})
	require.NoError(t, err)
	whole, err := SignStandard(aStandardSecret, "msg_1", nil, time.Unix(1700000000, 0))
	require.NoError(t, err)
	for name := range whole {
		without := whole.Clone()
		without.Del(name)
		_, err = s.claim(without)
		require.ErrorIs(t, err, errNoSignature)
		require.ErrorContains(t, err, name)
		twice := whole.Clone()
		twice.Add(name, whole.Get(name))
		_, err = s.claim(twice)
		require.EqualError(t, err, "the header "+name+" is there 2 times, and must be once")
	}
}

func TestStandardRotation(t *testing.T) {
	t.Parallel()
	other := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 64)))
	const body = "{}"
	sign := func(secret string) http.Header {
		header, err := SignStandard(secret, "msg_1", []byte(body), time.Unix(1700000000, 0))
		require.NoError(t, err)
		return header
	}
	require.True(t, standardVerifies(t, sign(other), body, aStandardSecret, other))
	require.False(t, standardVerifies(t, sign(other), body, aStandardSecret))
	both := sign(other)
	both.Set("Webhook-Signature", "v1,AAAA "+both.Get("Webhook-Signature")+" "+sign(aStandardSecret).Get("Webhook-Signature"))
	require.True(t, standardVerifies(t, both, body, aStandardSecret))
	renamed := sign(other)
	renamed.Set("Webhook-Id", "msg_2")
	require.False(t, standardVerifies(t, renamed, body, other), "the id is signed as well")
}

// What is signed says where the id ends, so that nobody can move a part of the body into the headers.
func TestStandardSignatureHoldsForNothingElse(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOfN(rapid.Byte(), 24, 64).Draw(t, "key")
		secret := "whsec_" + base64.StdEncoding.EncodeToString(key)
		id := rapid.StringMatching(`[!-\-/-~]{1,200}`).Draw(t, "id")
		body := rapid.SliceOf(rapid.Byte()).Draw(t, "body")
		at := time.Unix(rapid.Int64Range(1, 99_999_999_998).Draw(t, "at"), 0)
		s, err := newStandardScheme(SMS, []string{secret})
		require.NoError(t, err)
		header, err := SignStandard(secret, id, body, at)
		require.NoError(t, err)
		c, err := s.claim(header)
		require.NoError(t, err)
		require.True(t, s.verify(c, body))

		later, renamed := c, c
		later.at, renamed.id = at.Add(time.Second), c.id+"x"
		require.False(t, s.verify(later, body), "another time")
		require.False(t, s.verify(renamed, body), "another id")
		require.False(t, s.verify(c, append(body, 'x')), "another body")
	})
}

func TestSecretsAreChecked(t *testing.T) {
	t.Parallel()
	const stripeAsk = "does not begin with whsec_: it must be an endpoint's signing secret, not an API key"
	for secret, want := range map[string]string{
		"":      "is empty",
		" \t\n": "is empty",
		"sk_" + "live_51HqLyjWDarjtT1zdp7dc000000": stripeAsk,
		"DaLRHCRs35vEXqOE8uTEAXGLGUOnyaFf":         stripeAsk,
		"whsec_":                                   "has 0 characters after whsec_: some are missing, Stripe's have 24 or more",
		"whsec_DaLRHCRs35vEXqOE8uTEAXG":            "has 23 characters after whsec_: some are missing, Stripe's have 24 or more",
		"whsec_DaLRHCRs35v EXqOE8uTEAXGLGUOn":      "has characters in it, or more of them, than a secret of Stripe's can have: copy it once more",
	} {
		_, err := SignStripe(secret, nil, time.Now())
		require.EqualError(t, err, "secret: "+want)
	}
	for secret, want := range map[string]string{
		"":                                 "is empty",
		"whsec_":                           "is empty",
		"whsec_not base64 at all!":         "is not base64, with or without whsec_ before it",
		"whsec_" + strings.Repeat("A", 31): "is not base64, with or without whsec_ before it",
		"whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 23)): "has 23 bytes: Standard Webhooks wants 24 or more",
	} {
		_, err := SignStandard(secret, "msg_1", nil, time.Now())
		require.EqualError(t, err, "secret: "+want)
	}
	for _, id := range []string{"", "a.b", "a b"} {
		_, err := SignStandard(aStandardSecret, id, nil, time.Now())
		require.ErrorContains(t, err, "Webhook-Id")
	}
}
