import java.util.concurrent.TimeUnit

/** Where steps run: this machine, in a workspace, in this process' environment. */
class Agent {

    final Log console
    final File workspace
    /** The variables that withCredentials has bound. */
    final Map<String, String> bound = [:]
    /** When the timeouts that are in force end, in nanoseconds of the system's clock. */
    private final Deque<Long> deadlines = new ArrayDeque<>()

    Agent(Log console, File workspace) {
        this.console = console
        this.workspace = workspace
        workspace.mkdirs()
    }

    void within(long seconds, Closure content) {
        deadlines.push(System.nanoTime() + TimeUnit.SECONDS.toNanos(seconds))
        try {
            content()
        } finally {
            deadlines.pop()
        }
    }

    /** Runs a script as Jenkins does, with `sh -xe`, and gives its exit code and, if it is asked for, what it printed. */
    List run(String script, Map<String, String> environment, boolean capture) {
        File file = File.createTempFile('script', '.sh')
        try {
            file.text = script
            ProcessBuilder builder = new ProcessBuilder('sh', '-xe', file.path).directory(workspace)
            builder.environment().putAll(environment + bound)
            Process process = builder.start()
            process.outputStream.close()
            StringBuilder captured = new StringBuilder()
            List<Thread> readers = [
                Thread.start { process.inputStream.eachLine { capture ? captured << it << '\n' : console.line(it) } },
                Thread.start { process.errorStream.eachLine { console.line(it) } },
            ]
            await(process)
            readers*.join()
            [process.exitValue(), captured as String]
        } finally {
            file.delete()
        }
    }

    private void await(Process process) {
        Long deadline = deadlines.min()
        if (deadline == null) {
            process.waitFor()
        } else if (!process.waitFor(deadline - System.nanoTime(), TimeUnit.NANOSECONDS)) {
            console.line('Sending interrupt signal to process')
            process.descendants().each { it.destroy() }
            process.destroy()
            if (!process.waitFor(10, TimeUnit.SECONDS)) {
                process.descendants().each { it.destroyForcibly() }
                process.destroyForcibly().waitFor()
            }
            throw new Timeout()
        }
    }

    /** The time of a timeout was up. */
    static class Timeout extends Failure {

        Timeout() {
            super('Timeout has been exceeded')
        }

    }

}
