/** Explains why a connection or an answer failed. */
import type { Circumstances, Meaning } from '../failure.ts';
import { loginWanted } from './foreign.ts';

/** Explains a network or TLS error; `code` is Node's, undici's or ours. */
export function explainConnection(
  { code, message }: { readonly code: string; readonly message: string },
  circumstances: Circumstances,
): Meaning {
  const { endpoint } = circumstances;
  return (
    proxied(code, circumstances) ??
    resolving(code, endpoint) ??
    connecting(code, endpoint) ??
    tls(code, message, circumstances) ??
    BROKEN
  );
}

const BROKEN: Meaning = {
  means: 'the connection broke',
  advice: 'check the network between here and sns_host, and whether http or https is right for that port',
};

/** Explains a failure before the endpoint was reached. */
function proxied(code: string, { endpoint, proxy }: Circumstances): Meaning | undefined {
  if (!proxy || !code.startsWith('Proxy')) return undefined;
  const { source } = proxy;
  switch (code) {
    case 'ProxyLogin':
      return loginWanted(proxy);
    case 'ProxyRefused':
      return {
        means: `the proxy forbids connections to ${endpoint.host}`,
        advice: `allow CONNECT to ${endpoint.hostname} port ${endpoint.port || 443} on the proxy, or bypass it with NO_PROXY or proxy = "none"`,
      };
    case 'ProxyFailed':
      return {
        means: `the proxy can't reach ${endpoint.host}, or is overloaded`,
        advice: "check sns_host, and the proxy's own way to the internet",
      };
    default:
      return {
        means: "the proxy itself can't be reached",
        advice: `check ${source}, and that the proxy runs; or bypass it with NO_PROXY or proxy = "none"`,
      };
  }
}

function resolving(code: string, { hostname }: URL): Meaning | undefined {
  if (!/^(ENOTFOUND|EAI_AGAIN|EAI_NODATA|EAI_FAIL)$/.test(code)) return undefined;
  return {
    means: code === 'EAI_AGAIN' || code === 'EAI_FAIL' ? 'no DNS server answers' : `the DNS knows no host ${hostname}`,
    advice: 'check the spelling of sns_host and region, and whether this machine can resolve names (getent hosts)',
  };
}

function connecting(code: string, endpoint: URL): Meaning | undefined {
  const port = endpoint.port || (endpoint.protocol === 'https:' ? '443' : '80');
  switch (code) {
    case 'ECONNREFUSED':
      return {
        means: `nothing listens on port ${port} there, or a firewall rejects it`,
        advice: 'check the port in sns_host, and whether the server there is running',
      };
    case 'UND_ERR_CONNECT_TIMEOUT':
    case 'ETIMEDOUT':
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
      return {
        means: 'packets to it get lost: a firewall, a security group, or no route to the internet',
        advice: `allow outgoing TCP to ${endpoint.hostname} port ${port}, or use a VPC endpoint of SNS`,
      };
    case 'EPERM':
    case 'EACCES':
      return {
        means: 'this machine itself forbids the connection: a local firewall, or systemd (IPAddressDeny)',
        advice: `allow outgoing TCP to ${endpoint.hostname} port ${port} on this machine`,
      };
    case 'EMFILE':
    case 'ENFILE':
    case 'EADDRNOTAVAIL':
    case 'ENOBUFS':
      return {
        means: 'this machine has no file handles or ports left for another connection',
        advice: 'raise the limit of open files (LimitNOFILE, ulimit -n), or lower pool_size',
      };
    case 'UND_ERR_HEADERS_TIMEOUT':
    case 'UND_ERR_BODY_TIMEOUT':
    case 'RequestTimeout':
      return {
        means: 'it accepts connections but does not answer in time; SNS answers within tens of milliseconds',
        advice: 'check every proxy between here and SNS, and whether sns_host is SNS',
      };
    case 'UnreadableAnswer':
      return {
        means: 'this answer is not from SNS, but from a proxy, a portal or another server',
        advice: 'check sns_host with its port and path, and every proxy between here and SNS',
      };
    default:
      return undefined;
  }
}

function tls(code: string, message: string, { endpoint, tlsChecksOff }: Circumstances): Meaning | undefined {
  if (code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID')
    return {
      means: "the certificate has expired or is not valid yet, or this machine's clock is wrong",
      advice: 'check the clock first (timedatectl), then the certificate',
    };
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID')
    return {
      means: `the server's certificate is for another host, not for ${endpoint.hostname}`,
      advice: 'correct sns_host; for a VPC endpoint use its full name',
    };
  if (/SELF_SIGNED|UNABLE_TO_(VERIFY|GET_ISSUER)|CERT_UNTRUSTED|INVALID_CA|CERT_SIGNATURE_FAILURE/.test(code))
    return {
      means: `no trusted authority signed its certificate: a proxy intercepts TLS, or a private endpoint has its own authority${
        tlsChecksOff ? '; NODE_TLS_REJECT_UNAUTHORIZED=0 in the environment does not turn this check off' : ''
      }`,
      advice: 'set ca_file to the PEM file of that authority, if you trust it',
    };
  if (/WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|EPROTO/.test(`${code} ${message}`))
    return {
      means: 'it does not speak TLS there',
      advice: 'begin sns_host with http:// if you want that, or correct its port',
    };
  if (/^(ERR_SSL|ERR_TLS|CERT)_/.test(code))
    return {
      means: 'the two sides share no TLS version or cipher, or it asks for a client certificate, which SNS never does',
      advice: 'check every proxy between here and SNS, and whether sns_host is SNS',
    };
  if (/^HPE_/.test(code))
    return {
      means: 'the answer is not HTTP; perhaps it expects TLS',
      advice: 'begin sns_host with https://, or correct its port',
    };
  return undefined;
}
