/**
 * Shadow roots are closed: nothing outside can reach the buttons. Kept in a file of its own because axe-core
 * cannot look into a closed root; the user interface tests, and only they, put another file in its place.
 */
export const SHADOW_MODE: ShadowRootMode = "closed";
