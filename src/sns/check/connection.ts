/** Why there is no connection to an SNS endpoint. Pure functions from the error to what it means. */
import { type Circumstances, type Diagnosis, fail } from './diagnosis.ts';

/** What is said of an error, before the proxy comes in. */
interface Explanation {
  readonly means: string;
  readonly advice: string;
}

/** What an error of the network or of TLS means; `code` is Node's or undici's. */
export function unreachable(
  { code, message }: { code: string; message: string },
  { endpoint, proxy }: Circumstances,
): Diagnosis {
  const seen = `${endpoint.origin}: ${code}${message === code ? '' : `: ${message}`}`;
  const { means, advice } = networkFailure(code, endpoint) ?? tlsFailure(code, message, endpoint) ?? BROKEN;
  if (proxy === undefined) return fail(seen, means, advice);
  return fail(
    seen,
    `${means}; the environment names the proxy ${proxy}, but the daemon connects directly`,
    `${advice}; where only the proxy may go out, let this machine reach ${endpoint.host} or give it a VPC endpoint of SNS as sns_host`,
  );
}

function networkFailure(code: string, endpoint: URL): Explanation | undefined {
  const { hostname, host } = endpoint;
  const port = endpoint.port || (endpoint.protocol === 'https:' ? '443' : '80');
  const is = (...codes: string[]) => codes.includes(code);
  if (is('ENOTFOUND', 'EAI_AGAIN', 'EAI_NODATA'))
    return {
      means: code === 'EAI_AGAIN' ? 'no DNS server answers' : `the DNS knows no host ${hostname}`,
      advice: 'check the spelling of sns_host and region, and that this machine can resolve names (getent hosts)',
    };
  if (is('ECONNREFUSED'))
    return {
      means: `nothing listens on port ${port} there, or a firewall rejects it`,
      advice: 'check the port in sns_host, and whether what should listen there runs',
    };
  if (is('UND_ERR_CONNECT_TIMEOUT', 'ETIMEDOUT', 'EHOSTUNREACH', 'ENETUNREACH'))
    return {
      means: 'packets to it get lost: a firewall, a security group, or no route to the internet',
      advice: `allow outgoing TCP to ${host} port ${port}, or use a VPC endpoint of SNS`,
    };
  if (is('UND_ERR_HEADERS_TIMEOUT', 'UND_ERR_BODY_TIMEOUT'))
    return {
      means: 'it takes connections but does not answer within 10 s, which SNS does within tens of milliseconds',
      advice: 'check what stands between here and SNS, and whether sns_host is SNS at all',
    };
  return undefined;
}

const BROKEN: Explanation = {
  means: 'the connection breaks',
  advice: 'check the network between here and sns_host, and whether http or https is right for that port',
};

function tlsFailure(code: string, message: string, { hostname }: URL): Explanation | undefined {
  if (code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID')
    return {
      means: "the certificate's time is over or has not come, or this machine's clock is wrong",
      advice: 'check the clock first (timedatectl), then the certificate',
    };
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID')
    return {
      means: `who answers has a certificate of another host, not of ${hostname}`,
      advice: 'correct sns_host; for a VPC endpoint use its full name',
    };
  if (/SELF_SIGNED|UNABLE_TO_(VERIFY|GET_ISSUER)|CERT_UNTRUSTED/.test(code))
    return {
      means:
        "nobody we trust has signed its certificate: a proxy that looks into TLS, or a private endpoint's own authority",
      advice: 'set ca_file to the PEM file of that authority, if you trust it',
    };
  if (/WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|EPROTO/.test(`${code} ${message}`))
    return {
      means: 'it does not speak TLS there',
      advice: 'begin sns_host with http:// if that is meant, or correct its port',
    };
  if (/^HPE_/.test(code))
    return {
      means: 'what answers is not HTTP; perhaps it expects TLS',
      advice: 'begin sns_host with https://, or correct its port',
    };
  return undefined;
}
