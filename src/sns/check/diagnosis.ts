/** What a diagnosis says, and what it is made from. */

export interface Diagnosis {
  /** `fail`: events can't be published so. `warn`: they can, but somebody should know. */
  readonly level: 'fail' | 'warn';
  /** What was observed. */
  readonly seen: string;
  readonly means: string;
  /** What to do about it. */
  readonly advice: string;
}

/** One thing that was looked at: fine, or what is the matter with it. */
export type Finding = { readonly what: string } & ({ readonly level: 'ok'; readonly seen: string } | Diagnosis);

/** What is known beside an answer. */
export interface Circumstances {
  readonly endpoint: URL;
  readonly region: string;
  readonly accountId: string;
  readonly credentials: 'static' | 'aws';
  /** The access key's id and how many characters its secret has, where the configuration has them. */
  readonly accessKeyId: string | undefined;
  readonly secretLength: number | undefined;
  /** The proxy that the environment names for this endpoint, without credentials. */
  readonly proxy: string | undefined;
  /** As it was given, for commands to copy. */
  readonly configFile: string;
}

export const fail = (seen: string, means: string, advice: string): Diagnosis => ({
  level: 'fail',
  seen,
  means,
  advice,
});

export const warn = (seen: string, means: string, advice: string): Diagnosis => ({
  level: 'warn',
  seen,
  means,
  advice,
});

export const failed = (what: string, seen: string, means: string, advice: string): Finding => ({
  what,
  ...fail(seen, means, advice),
});

type Environment = Readonly<Record<string, string | undefined>>;

/** The proxy that the environment names for an endpoint, as host and port: what it may hold beside them is secret. */
export function proxyFor(endpoint: URL, environment: Environment): string | undefined {
  const names = endpoint.protocol === 'https:' ? ['HTTPS_PROXY', 'https_proxy'] : ['HTTP_PROXY', 'http_proxy'];
  const value = [...names, 'ALL_PROXY', 'all_proxy'].map((name) => environment[name]).find(Boolean);
  if (!value) return undefined;
  const exceptions = (environment.NO_PROXY ?? environment.no_proxy ?? '').split(',').map((host) => host.trim());
  const exempt = (host: string) => {
    const suffix = host.replace(/^\*?\.?/, '');
    return host === '*' || endpoint.hostname === suffix || (suffix !== '' && endpoint.hostname.endsWith(`.${suffix}`));
  };
  if (exceptions.some(exempt)) return undefined;
  const withScheme = value.includes('://') ? value : `http://${value}`;
  return URL.canParse(withScheme) ? new URL(withScheme).host : 'a value that is no URL';
}
