package ingress

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const aStripeSecret = "whsec_DaLRHCRs35vEXqOE8uTEAXGLGUOnyaFf"

// What Stripe's own library, stripe-go v82.5.1, signs with webhook.GenerateTestSignedPayload.
func TestStripeSignsAsStripeDoes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		secret, body string
		at           int64
		want         string
	}{
		{
			aStripeSecret, `{"id":"evt_1","type":"charge.succeeded"}`, 1700000000,
			"t=1700000000,v1=e5ea8d3faa1ead5b75586eb3c96e048f6a548eea60067992c22f7b4405efc146",
		},
		{aStripeSecret, "", 1, "t=1,v1=27ca586bf6c6d346e153dddfd3dc45030331c79a29e08c8ed97ca20b80e6ee5d"},
		{
			"whsec_test_secret_0123456789abcdef", "{\n  \"name\": \"Zoë ☃\"\n}\n", 1614265330,
			"t=1614265330,v1=26e5ad3c8b774e8269d040517e3f8f9e280b530c2cb9d639b8e7bc66f5e8499e",
		},
	} {
		header, err := SignStripe(c.secret, []byte(c.body), time.Unix(c.at, 0))
		require.NoError(t, err)
		require.Equal(t, http.Header{"Stripe-Signature": {c.want}}, header)
		require.True(t, stripeVerifies(t, header, c.body, c.secret))
	}
}

func stripeVerifies(t *testing.T, header http.Header, body string, secrets ...string) bool {
	t.Helper()
	s, err := newStripeScheme(secrets)
	require.NoError(t, err)
	c, err := s.claim(header)
	require.NoError(t, err)
	return s.verify(c, []byte(body))
}

func TestStripeHeader(t *testing.T) {
	t.Parallel()
	const unsigned = "the request is not signed: the header Stripe-Signature has no signature of version 1, v1="
	v1 := strings.Repeat("ab", 32)
	for value, want := range map[string]string{
		"t=1700000000,v1=" + v1:                                "",
		"v1=" + v1 + ",t=1700000000":                           "",
		" t=1700000000, v1=" + v1 + " ":                        "",
		"t=1700000000,v0=" + v1 + ",v1=" + v1 + ",v2=,x=y=z":   "",
		"t=1700000000,v1=no digits":                            "", // it is compared, and is not equal
		"t=1700000000," + strings.Repeat("v1=00,", 16) + "v0=": "",
		"t=1700000000," + strings.Repeat("v1=00,", 17) + "v0=": "the header Stripe-Signature has more than 16 signatures",
		"t=1700000000,v0=" + v1:                                unsigned,
		"t=1700000000,V1=" + v1:                                unsigned,
		"v1=" + v1:                                             "the request is not signed: the header Stripe-Signature has no time, t=",
		"t=1700000000,t=1700000001,v1=" + v1:                   "the header Stripe-Signature has two times",
		"t=1700000000,t=1700000000,v1=" + v1:                   "the header Stripe-Signature has two times",
		"t=1700000000;v1=" + v1:                                "the time of signing is not in Unix seconds",
		"t=1700000000,,v1=" + v1:                               "the header Stripe-Signature is not a list of t= and v1=",
		"\x00\xff":                                             "the header Stripe-Signature is not a list of t= and v1=",
		"t=,v1=" + v1:                                          "the time of signing is not in Unix seconds",
		"t=-1,v1=" + v1:                                        "the time of signing is not in Unix seconds",
		"t=+1700000000,v1=" + v1:                               "the time of signing is not in Unix seconds",
		"t=01700000000,v1=" + v1:                               "the time of signing is not in Unix seconds",
		"t=0,v1=" + v1:                                         "the time of signing is not in Unix seconds",
		"t=1.7e9,v1=" + v1:                                     "the time of signing is not in Unix seconds",
		"t=9223372036854775807,v1=" + v1:                       "the time of signing is not in Unix seconds",
		"t=99999999999999999999999,v1=" + v1:                   "the time of signing is not in Unix seconds",
		"t=١٧,v1=" + v1:                                        "the time of signing is not in Unix seconds",
	} {
		_, err := parseStripe(value)
		if want == "" {
			require.NoError(t, err, value)
		} else {
			require.EqualError(t, err, want, value)
		}
	}
}

func TestStripeHeaderThere(t *testing.T) {
	t.Parallel()
	s, err := newStripeScheme([]string{aStripeSecret})
	require.NoError(t, err)
	for _, header := range []http.Header{nil, {"Stripe-Signature": nil}, {"Stripe-Signature": {""}}} {
		_, err = s.claim(header)
		require.ErrorIs(t, err, errNoSignature)
	}
	_, err = s.claim(http.Header{"Stripe-Signature": {"t=1,v1=00", "t=1,v1=00"}})
	require.EqualError(t, err, "the header Stripe-Signature is there 2 times, and must be once")
}

// Any of several signatures by any of several secrets is enough, and nothing less.
func TestStripeRotation(t *testing.T) {
	t.Parallel()
	const old, other = "whsec_test_secret_0123456789abcdef", "whsec_another_secret_0123456789abcdef"
	const body = `{"id":"evt_1"}`
	sign := func(secret string) string {
		header, err := SignStripe(secret, []byte(body), time.Unix(1700000000, 0))
		require.NoError(t, err)
		_, v1, _ := strings.Cut(header.Get("Stripe-Signature"), ",")
		return v1
	}
	header := func(signatures ...string) http.Header {
		return http.Header{"Stripe-Signature": {"t=1700000000," + strings.Join(signatures, ",")}}
	}
	require.True(t, stripeVerifies(t, header(sign(old)), body, aStripeSecret, old))
	require.True(t, stripeVerifies(t, header(sign(other), "v1=ff", sign(aStripeSecret)), body, old, aStripeSecret))
	require.True(t, stripeVerifies(t, header(strings.Replace(strings.ToUpper(sign(old)), "V1", "v1", 1)), body, old))
	require.False(t, stripeVerifies(t, header(sign(other)), body, aStripeSecret, old))
	require.False(t, stripeVerifies(t, header(strings.Replace(sign(old), "v1", "v0", 1), "v1=ff"), body, old), "v0 does not count")
	require.False(t, stripeVerifies(t, header(sign(old)[:len("v1=")+32]), body, old), "half a signature")
	require.False(t, stripeVerifies(t, header("v1="), body, old))
	require.False(t, stripeVerifies(t, header(sign(old)), body), "without a secret nothing is signed")
}

// A signature holds for its body, its time and its secret, and for no other.
func TestStripeSignatureHoldsForNothingElse(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		secret := "whsec_" + rapid.StringMatching(`[a-zA-Z0-9]{24,64}`).Draw(t, "secret")
		body := rapid.SliceOf(rapid.Byte()).Draw(t, "body")
		at := time.Unix(rapid.Int64Range(1, 99_999_999_998).Draw(t, "at"), 0)
		s, err := newStripeScheme([]string{secret})
		require.NoError(t, err)
		header, err := SignStripe(secret, body, at)
		require.NoError(t, err)
		c, err := s.claim(header)
		require.NoError(t, err)
		require.True(t, c.at.Equal(at))
		require.True(t, s.verify(c, body))

		later := c
		later.at = at.Add(time.Second)
		require.False(t, s.verify(later, body), "another time")
		require.False(t, s.verify(c, append(body, 'x')), "a longer body")
		if len(body) > 0 {
			changed := append([]byte(nil), body...)
			changed[rapid.IntRange(0, len(body)-1).Draw(t, "where")] ^= byte(rapid.IntRange(1, 255).Draw(t, "how"))
			require.False(t, s.verify(c, changed), "another body")
			require.False(t, s.verify(c, body[1:]), "a shorter body")
		}
		elsewhere, err := newStripeScheme([]string{secret + "x"})
		require.NoError(t, err)
		require.False(t, elsewhere.verify(c, body), "another secret")
	})
}
