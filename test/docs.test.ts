/** The documents' links to files and their statements about the tap's address are correct. */
import assert from 'node:assert/strict';
import { existsSync, globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const files = globSync('**/*.md', { cwd: ROOT, exclude: (name) => path.basename(name) === 'node_modules' });
const documents = files.map((name) => ({ name, text: readFileSync(path.join(ROOT, name), 'utf8') }));

/** All matches of a pattern's first group, with their documents. */
const find = (pattern: RegExp): { name: string; found: string }[] =>
  documents.flatMap(({ name, text }) => [...text.matchAll(pattern)].map(([, found = '']) => ({ name, found })));

describe('the documents', () => {
  it('documents link to existing files', () => {
    const links = find(/\]\(([^)\s]+)[^)]*\)/g).filter(({ found }) => !/^(?:[a-z][a-z0-9+.-]*:|#)/i.test(found));
    assert.ok(links.length > 20, `${links.length} links were found`);
    const dead = links.filter(({ name, found }) => {
      const [target = ''] = found.split('#');
      return !existsSync(path.resolve(ROOT, path.dirname(name), decodeURIComponent(target)));
    });
    assert.deepEqual(dead, []);
  });

  it('documents link to existing headings', () => {
    // GitHub's anchors: lower case, without punctuation, a hyphen for each space.
    const anchors = (text: string) =>
      [...text.matchAll(/^#+ (.*)$/gm)].map(([, title = '']) =>
        title
          .toLowerCase()
          .replace(/[^\p{L}\p{N} _-]/gu, '')
          .replaceAll(' ', '-'),
      );
    const links = find(/\]\(([^)\s]*#[^)\s]+)\)/g).filter(({ found }) => !/^[a-z][a-z0-9+.-]*:/i.test(found));
    assert.ok(links.length > 20, `${links.length} links were found`);
    const dead = links.filter(({ name, found }) => {
      const [target = '', anchor = ''] = found.split('#');
      const file = target === '' ? path.join(ROOT, name) : path.resolve(ROOT, path.dirname(name), target);
      return !anchors(readFileSync(file, 'utf8')).includes(anchor);
    });
    assert.deepEqual(dead, []);
  });

  it("documents name the tap's default port", () => {
    const ports = find(/https?:\/\/[^\s/"'`]+:(\d+)\/v1\/events/g);
    assert.ok(ports.length > 2, `${ports.length} addresses were found`);
    assert.deepEqual(
      ports.filter(({ found }) => found !== '5290'),
      [],
    );
  });

  it('documents name no folder outside the project', () => {
    assert.deepEqual(find(/(\.\.\/shared)/g), []);
  });
});
