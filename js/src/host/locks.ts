/** Web Locks, where they can be used: a visitor who blocks storage has them, but every request is refused. */
export async function usableLocks(): Promise<LockManager | undefined> {
  const locks: LockManager | undefined = navigator.locks;
  try {
    await locks?.request("kwaainet-probe", { mode: "shared" }, () => undefined);
    return locks;
  } catch {
    return undefined;
  }
}
