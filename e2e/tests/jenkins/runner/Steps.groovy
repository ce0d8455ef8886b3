/** The steps that there are. */
class Steps {

    static final List<String> NAMES = ['sh', 'echo', 'error', 'script', 'timeout', 'withCredentials']

    private final Build build

    Steps(Build build) {
        this.build = build
    }

    void run(Closure content) {
        Section.content(content, this)
    }

    Object sh(String script) {
        sh(script: script)
    }

    Object sh(Map args) {
        NotUnderstood.unlessNamed('sh', args, [script: String, returnStdout: Boolean, label: String], ['script'])
        String text = build.sh(args.script as String, args.returnStdout ?: false)
        args.returnStdout ? text : null
    }

    void echo(String text) {
        build.agent.console.line(text)
    }

    void error(String text) {
        throw new Failure(text)
    }

    void script(Closure content) {
        run(content)
    }

    void timeout(Map args, Closure content) {
        build.agent.within(Options.seconds(args)) { run(content) }
    }

    void withCredentials(List<Map<String, String>> bindings, Closure content) {
        build.withCredentials(bindings) { run(content) }
    }

    Map<String, String> string(Map args) {
        Credentials.binding('string', args)
    }

    Map<String, String> usernamePassword(Map args) {
        Credentials.binding('usernamePassword', args)
    }

    Map<String, String> file(Map args) {
        Credentials.binding('file', args)
    }

    Map<String, String> sshUserPrivateKey(Map args) {
        Credentials.binding('sshUserPrivateKey', args)
    }

    Object getEnv() {
        build.env
    }

    Map<String, Object> getParams() {
        build.params.asImmutable()
    }

    Build getCurrentBuild() {
        build
    }

}
