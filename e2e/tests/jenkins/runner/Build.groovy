/** One build: what it is told, what it remembers, and how its stages ended. */
class Build {

    final Agent agent
    final Credentials credentials
    final Map<String, String> given
    final Map<String, Object> params = [:]
    final Map<String, String> environment = [:]
    final Map<String, String> stages = [:]
    String result = 'SUCCESS'
    String displayName

    Build(Agent agent, Credentials credentials, Map<String, String> given, String number) {
        this.agent = agent
        this.credentials = credentials
        this.given = given
        displayName = "#$number"
        environment.putAll([
            CI: 'true', JOB_NAME: 'portfolio', JOB_BASE_NAME: 'portfolio', BUILD_NUMBER: number, BUILD_ID: number,
            BUILD_TAG: "jenkins-portfolio-$number" as String, JENKINS_URL: 'http://jenkins.example/',
            BUILD_URL: "http://jenkins.example/job/portfolio/$number/" as String, WORKSPACE: agent.workspace.path,
        ])
    }

    /** As Declarative does before the first stage, with the variables of the Git plugin. */
    void checkOut(String repository, String branch) {
        sh("git init --quiet . && git remote add origin '$repository' && git fetch --quiet --tags origin && " +
            "git checkout --quiet --detach 'refs/remotes/origin/$branch'", false)
        String commit = sh('git rev-parse HEAD', true).trim()
        environment.putAll([GIT_COMMIT: commit, GIT_BRANCH: "origin/$branch" as String, GIT_URL: repository])
    }

    void declare(String name, Object initial, Class type) {
        Object value = initial
        if (given.containsKey(name)) {
            value = type == Boolean ? Boolean.valueOf(given[name]) : given[name]
        }
        params[name] = value
        // Parameters are variables of each step, too.
        environment[name] = value as String
    }

    String sh(String script, boolean capture) {
        agent.console.refuseSecrets('sh', script)
        def (int code, String text) = agent.run(script, environment, capture)
        if (code != 0) {
            throw new Failure("script returned exit code $code")
        }
        text
    }

    void withCredentials(List<Map<String, String>> bindings, Closure content) {
        credentials.with(bindings) { Map<String, String> variables ->
            agent.bound.putAll(variables)
            try {
                content()
            } finally {
                agent.bound.keySet().removeAll(variables.keySet())
            }
        }
    }

    /** `env` in a Jenkinsfile. */
    Object getEnv() {
        new Variables(this)
    }

    static class Variables {

        private final Build build

        Variables(Build build) {
            this.build = build
        }

        Object getProperty(String name) {
            Build of = this.@build
            of.agent.bound[name] ?: of.environment[name] ?: System.getenv(name)
        }

        void setProperty(String name, Object value) {
            this.@build.environment[name] = value as String
        }

    }

}
