/** The npm packages in the Debian package, and their licences. */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';

interface Locked {
  readonly dev?: boolean;
  readonly devOptional?: boolean;
}

/** Folders of the production dependencies, relative to the root, according to the lock file. */
export function productionPackages(root: string): string[] {
  const lock = JSON.parse(readFileSync(path.join(root, 'package-lock.json'), 'utf8'));
  return Object.entries(lock.packages as Record<string, Locked>)
    .filter(([folder, { dev, devOptional }]) => folder !== '' && !dev && !devOptional)
    .map(([folder]) => folder)
    .filter((folder) => existsSync(path.join(root, folder)));
}

/** Debian's file `copyright`, in its machine-readable format. */
export function copyrightFile(root: string, packages: readonly string[]): string {
  const apache = ' On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.';
  const stanzas = packages.map((folder) => {
    const read = JSON.parse(readFileSync(path.join(root, folder, 'package.json'), 'utf8'));
    const author = typeof read.author === 'object' ? read.author?.name : read.author;
    const who = author ?? `the authors of ${read.name}`;
    return `Files: usr/lib/xmpp-event-pusher/${folder}/*
Copyright: ${String(who).replaceAll(/\s+/g, ' ')}
License: ${String(read.license)
      .replaceAll(/[()\s]+/g, ' ')
      .trim()}
 The text is in that folder, or in its package.json.`;
  });
  return `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: xmpp-event-pusher

Files: *
Copyright: the authors of xmpp-event-pusher
License: Apache-2.0
${apache}

Files: usr/lib/xmpp-event-pusher/node/node
Copyright: Node.js contributors, and those whom node.LICENSE names
License: Expat-and-others
 The text is in /usr/share/doc/xmpp-event-pusher/node.LICENSE.

${stanzas.join('\n\n')}
`;
}
