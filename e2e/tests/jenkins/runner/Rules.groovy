import org.codehaus.groovy.ast.ClassNode
import org.codehaus.groovy.ast.CodeVisitorSupport
import org.codehaus.groovy.ast.expr.ClosureExpression
import org.codehaus.groovy.ast.expr.Expression
import org.codehaus.groovy.ast.expr.MethodCallExpression
import org.codehaus.groovy.ast.expr.TupleExpression
import org.codehaus.groovy.ast.stmt.BlockStatement
import org.codehaus.groovy.ast.stmt.ExpressionStatement
import org.codehaus.groovy.ast.stmt.Statement
import org.codehaus.groovy.classgen.GeneratorContext
import org.codehaus.groovy.control.CompilePhase
import org.codehaus.groovy.control.SourceUnit
import org.codehaus.groovy.control.customizers.CompilationCustomizer

/** What Jenkins checks before it runs anything: one pipeline, and where steps stand there are steps alone, which it knows. */
class Rules extends CompilationCustomizer {

    private static final List<String> WITH_STEPS = ['steps', 'withCredentials', 'timeout'] + Pipeline.CONDITIONS

    final List<String> complaints = []

    Rules() {
        super(CompilePhase.CONVERSION)
    }

    @Override
    void call(SourceUnit source, GeneratorContext context, ClassNode node) {
        List<Statement> statements = source.AST.statementBlock.statements
        if (statements*.expression*.methodAsString != ['pipeline']) {
            complaints << 'a declarative Jenkinsfile has one pipeline { } and nothing else'
            return
        }
        List<String> found = complaints
        source.AST.statementBlock.visit(new CodeVisitorSupport() {

            @Override
            void visitMethodCallExpression(MethodCallExpression call) {
                if (call.methodAsString in WITH_STEPS && call.arguments instanceof TupleExpression) {
                    call.arguments.expressions.findAll { it instanceof ClosureExpression }.each { Expression closure ->
                        found.addAll(Rules.wrong(call, closure))
                    }
                }
                // What is in script { } is Groovy.
                if (call.methodAsString != 'script') {
                    super.visitMethodCallExpression(call)
                }
            }

        })
    }

    private static List<String> wrong(MethodCallExpression call, ClosureExpression closure) {
        List<Statement> statements = ((BlockStatement) closure.code).statements
        if (statements.empty) {
            return ["line $call.lineNumber: there is no step in $call.methodAsString { }" as String]
        }
        statements.findResults { Statement statement ->
            if (!(statement instanceof ExpressionStatement && statement.expression instanceof MethodCallExpression)) {
                return "line $statement.lineNumber: no step; Groovy has to stand in script { }" as String
            }
            String name = statement.expression.methodAsString
            name in Steps.NAMES ? null : "line $statement.lineNumber: there is no step $name" as String
        }
    }

}
