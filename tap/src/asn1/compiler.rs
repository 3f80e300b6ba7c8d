//! Modules through `rasn-compiler`: its public `Backend` trait hands out what it parsed.

use super::check;
use super::scan::{self, Outline};
use super::{Body, Member, Tag, TypeUse, Types, Written};
use crate::error::SchemaError;
use rasn_compiler::prelude::ir::{
    ASN1Type, ASN1Value, AsnTag, Constraint, ElementOrSetOperation, SubtypeElements, TagClass,
    ToplevelTypeDefinition,
};
use rasn_compiler::prelude::ir::{ChoiceOption, Optionality, SequenceOrSetMember};
use rasn_compiler::prelude::{
    Backend, Compiler, CompilerError, ExtensibilityEnvironment, GeneratedModule, GeneratorError,
    LexerErrorType, TaggingEnvironment, ToplevelDefinition,
};
use std::cell::RefCell;
use std::rc::Rc;

/// Where the compiler leaves what it parsed.
type Parsed = Rc<RefCell<Vec<ToplevelDefinition>>>;

/// A backend that generates nothing and keeps the definitions.
#[derive(Default)]
struct Keep {
    parsed: Parsed,
}

impl Backend for Keep {
    type Config = Parsed;
    const FILE_EXTENSION: &'static str = "";

    fn generate_module(
        &mut self,
        definitions: Vec<ToplevelDefinition>,
    ) -> Result<GeneratedModule, GeneratorError> {
        self.parsed.borrow_mut().extend(definitions);
        Ok(GeneratedModule::empty())
    }

    fn generate(&self, _: ToplevelDefinition) -> Result<String, GeneratorError> {
        Ok(String::new())
    }

    fn config(&self) -> &Parsed {
        &self.parsed
    }

    fn from_config(parsed: Parsed) -> Self {
        Self { parsed }
    }

    fn new(parsed: Parsed, _: TaggingEnvironment, _: ExtensibilityEnvironment) -> Self {
        Self { parsed }
    }
}

/// The types of `modules` (file name and text), checked as a whole.
///
/// # Errors
/// [`SchemaError`] naming file and line: what can't be parsed or is not supported, names that are defined twice or
/// nowhere, imports that don't fit, sibling items that can't be distinguished.
pub(crate) fn compile(modules: &[(String, String)]) -> Result<Types, SchemaError> {
    let outlines: Vec<Outline<'_>> =
        modules.iter().map(|(file, text)| scan::outline(file, text)).collect::<Result<_, _>>()?;
    check::names(&outlines)?;
    let mut types = Types::new();
    for definition in parse(modules)? {
        let ToplevelDefinition::Type(definition) = definition else { continue };
        let Some(outline) = home(&outlines, &definition) else { continue };
        let ty = define(outline, &definition)?;
        types.insert(definition.name.clone(), ty);
    }
    check::everything_was_parsed(&outlines, &types)?;
    check::references(&outlines, &types)?;
    check::sibling_tags(&outlines, &types)?;
    Ok(types)
}

/// The module that holds a definition.
fn home<'a, 'b>(outlines: &'a [Outline<'b>], definition: &ToplevelTypeDefinition) -> Option<&'a Outline<'b>> {
    let module = definition.module_header.as_ref()?.borrow().name.clone();
    outlines.iter().find(|outline| outline.module == module)
}

fn parse(modules: &[(String, String)]) -> Result<Vec<ToplevelDefinition>, SchemaError> {
    // One by one first: an error then has a file.
    for (file, text) in modules {
        run(&[(file.clone(), text.clone())]).map_err(|error| syntax(file, &error))?;
    }
    let all = || modules.iter().map(|(file, _)| file.as_str()).collect::<Vec<_>>().join(", ");
    run(modules).map_err(|error| syntax(&all(), &error))
}

fn run(modules: &[(String, String)]) -> Result<Vec<ToplevelDefinition>, CompilerError> {
    let parsed = Parsed::default();
    let Some(((_, first), rest)) = modules.split_first() else { return Ok(Vec::new()) };
    let mut compiler = Compiler::<Keep, _>::new_with_config(parsed.clone()).add_asn_literal(first.clone());
    for (_, text) in rest {
        compiler = compiler.add_asn_literal(text.clone());
    }
    // Warnings are about what this module checks itself, with lines.
    compiler.compile_to_string()?;
    Ok(parsed.take())
}

fn syntax(file: &str, error: &CompilerError) -> SchemaError {
    let line = match error {
        CompilerError::Lexer(lexer) => match &lexer.kind {
            LexerErrorType::MatchingError(report) => report.line + 1,
            _ => 0,
        },
        _ => 0,
    };
    SchemaError::new(file, line, format!("not ASN.1 that can be read: {error}"))
}

fn define(outline: &Outline<'_>, definition: &ToplevelTypeDefinition) -> Result<TypeUse, SchemaError> {
    let context = Context { outline, name: &definition.name };
    if definition.parameterization.is_some() {
        return Err(context.unsupported("", "parameters"));
    }
    context.type_use(&definition.name, definition.tag.as_ref(), &definition.ty, &[])
}

/// The definition that is being read.
struct Context<'a, 'b> {
    outline: &'a Outline<'b>,
    name: &'a str,
}

impl Context<'_, '_> {
    fn unsupported(&self, word: &str, what: &str) -> SchemaError {
        SchemaError::new(
            self.outline.file,
            self.outline.line(self.name, word),
            format!(
                "{}: {what} is not supported: use INTEGER, OCTET STRING, SEQUENCE, SEQUENCE OF and CHOICE",
                self.name
            ),
        )
    }

    fn type_use(
        &self,
        word: &str,
        tag: Option<&AsnTag>,
        ty: &ASN1Type,
        outer: &[Constraint],
    ) -> Result<TypeUse, SchemaError> {
        let (body, constraints) = match ty {
            ASN1Type::Integer(integer) => (Body::Integer, &integer.constraints),
            ASN1Type::OctetString(octets) => (Body::Octets, &octets.constraints),
            ASN1Type::ElsewhereDeclaredType(named) => {
                (Body::Named(named.identifier.clone()), &named.constraints)
            }
            ASN1Type::Sequence(sequence) => {
                if !sequence.components_of.is_empty() {
                    return Err(self.unsupported(word, "COMPONENTS OF"));
                }
                let members = sequence.members.iter().map(|member| self.member(member));
                (Body::Sequence(members.collect::<Result<_, _>>()?), &sequence.constraints)
            }
            ASN1Type::SequenceOf(list) => {
                let element = self.type_use(word, list.element_tag.as_ref(), &list.element_type, &[])?;
                (Body::SequenceOf(Box::new(element)), &list.constraints)
            }
            ASN1Type::Choice(choice) => {
                let options = choice.options.iter().map(|option| self.option(option));
                (Body::Choice(options.collect::<Result<_, _>>()?), &choice.constraints)
            }
            other => return Err(self.unsupported(word, &other.as_str())),
        };
        let mut size = None;
        for constraint in constraints.iter().chain(outer) {
            let found =
                size_of(constraint).ok_or_else(|| self.unsupported(word, "a constraint other than SIZE"))?;
            size = Some(found);
        }
        Ok(TypeUse { written: tag.map(|tag| self.written(word, tag)).transpose()?, size, body })
    }

    fn member(&self, member: &SequenceOrSetMember) -> Result<Member, SchemaError> {
        let is_optional = match member.optionality {
            Optionality::Required => false,
            Optionality::Optional => true,
            Optionality::Default(_) => return Err(self.unsupported(&member.name, "DEFAULT")),
        };
        let ty = self.type_use(&member.name, member.tag.as_ref(), &member.ty, &member.constraints)?;
        Ok(Member { name: member.name.clone(), is_optional, ty })
    }

    fn option(&self, option: &ChoiceOption) -> Result<Member, SchemaError> {
        let ty = self.type_use(&option.name, option.tag.as_ref(), &option.ty, &option.constraints)?;
        Ok(Member { name: option.name.clone(), is_optional: true, ty })
    }

    fn written(&self, word: &str, tag: &AsnTag) -> Result<Written, SchemaError> {
        let class = match tag.tag_class {
            TagClass::Universal => 0,
            TagClass::Application => 1,
            TagClass::ContextSpecific => 2,
            TagClass::Private => 3,
        };
        let number = u32::try_from(tag.id).map_err(|_| self.unsupported(word, "a tag over 32 bits"))?;
        let is_explicit = tag.environment == TaggingEnvironment::Explicit;
        Ok(Written { tag: Tag { class, number }, is_explicit })
    }
}

/// The octets that a SIZE constraint allows; none for any other constraint.
fn size_of(constraint: &Constraint) -> Option<(usize, usize)> {
    let Constraint::Subtype(specs) = constraint else { return None };
    let ElementOrSetOperation::Element(SubtypeElements::SizeConstraint(size)) = &specs.set else {
        return None;
    };
    let octets = |value: &ASN1Value| match value {
        ASN1Value::Integer(number) => usize::try_from(*number).ok(),
        _ => None,
    };
    match size.as_ref() {
        ElementOrSetOperation::Element(SubtypeElements::SingleValue { value, .. }) => {
            octets(value).map(|size| (size, size))
        }
        ElementOrSetOperation::Element(SubtypeElements::ValueRange { min, max, .. }) => {
            Some((octets(min.as_ref()?)?, octets(max.as_ref()?)?))
        }
        _ => None,
    }
}
