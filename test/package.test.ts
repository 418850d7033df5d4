/** All tests of the npm package, on one archive. */
import './package/content.suite.ts';
import './package/library.suite.ts';
