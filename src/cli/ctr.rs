//! `k3rs ctr images ...`: the images of this node, by containerd's command names.

use api::{Lens, Value, json};
use stdx::Arrange;
use stdx::{Error, Result};

use crate::door::Door;

pub const USAGE: &str = "\
USAGE: k3rs ctr [-n k8s.io] images COMMAND

COMMANDS (images, image, i):
   import FILE...        import image archives (docker save or OCI layout; plain, gzip or zstd)
   list, ls [-q]         list images
   pull [-u USER:PASSWORD] REF...   pull images
   remove, rm, delete, del REF...   remove images
   tag SOURCE TARGET     give an image another name
";

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
enum Ask {
    List { quiet: bool },
    Import(Vec<String>),
    Pull { references: Vec<String>, user: String },
    Remove(Vec<String>),
    Tag(String, String),
}

/// Runs the command; gives what to print.
///
/// # Errors
/// What is wrong with the arguments, or what the server says.
pub async fn run(args: &[String], door: &Door) -> Result<String> {
    match parse(args)? {
        None => Ok(USAGE.to_owned()),
        Some(ask) => perform(ask, door).await,
    }
}

fn parse(args: &[String]) -> Result<Option<Ask>> {
    let mut words = Vec::new();
    let (mut quiet, mut user) = (false, String::new());
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let mut value = |name: &str| {
            rest.next()
                .cloned()
                .ok_or_else(|| Error::new(format!("flag needs an argument: {name}")))
        };
        match arg.as_str() {
            "--help" | "-h" | "help" => return Ok(None),
            "-n" | "--namespace" => {
                let namespace = value(arg)?;
                if namespace != "k8s.io" {
                    return Err(Error::new(format!(
                        "namespace {namespace:?}: k3rs has images of the namespace k8s.io only"
                    )));
                }
            }
            "-q" | "--quiet" => quiet = true,
            "-u" | "--user" => user = value(arg)?,
            flag if flag.starts_with('-') && flag.len() > 1 => {
                return Err(Error::new(format!("flag provided but not defined: {flag}")));
            }
            word => words.push(word.to_owned()),
        }
    }
    let mut words = words.into_iter();
    match words.next().as_deref() {
        None => return Ok(None),
        Some("images" | "image" | "i") => {}
        Some(other) => {
            return Err(Error::new(format!(
                "ctr {other} is not supported by this version of k3rs yet"
            )));
        }
    }
    let command = words.next();
    let names: Vec<String> = words.collect();
    let some = |names: Vec<String>, what: &str| match names.is_empty() {
        true => Err(Error::new(format!("ctr images: {what} is missing"))),
        false => Ok(names),
    };
    Ok(Some(match command.as_deref() {
        None => return Ok(None),
        Some("list" | "ls") => Ask::List { quiet },
        Some("import") => Ask::Import(some(names, "a file")?),
        Some("pull") => Ask::Pull { references: some(names, "a reference")?, user },
        Some("remove" | "rm" | "delete" | "del") => Ask::Remove(some(names, "a reference")?),
        Some("tag") => match <[String; 2]>::try_from(names) {
            Ok([source, target]) => Ask::Tag(source, target),
            Err(_) => return Err(Error::new("ctr images tag: want a source and a target")),
        },
        Some(other) => {
            return Err(Error::new(format!(
                "ctr images {other} is not supported by this version of k3rs yet"
            )));
        }
    }))
}

async fn perform(ask: Ask, door: &Door) -> Result<String> {
    let mut text = String::new();
    match ask {
        Ask::List { quiet } => return Ok(table(&door.ask("GET", "/images", None).await?, quiet)),
        Ask::Import(files) => {
            for file in files {
                let path = std::path::absolute(&file)
                    .map_err(|error| Error::wrap(format!("find {file}"), error))?;
                let answer = door
                    .ask(
                        "POST",
                        "/images/import",
                        Some(&json!({"path": path.display().to_string()})),
                    )
                    .await?;
                for name in answer.list("images").iter().filter_map(Value::as_str) {
                    text.push_str(&format!("unpacking {name}...done\n"));
                }
            }
        }
        Ask::Pull { references, user } => {
            let (name, password) = user.split_once(':').unwrap_or((&user, ""));
            for reference in references {
                let body = json!({"reference": reference, "username": name, "password": password});
                let answer = door.ask("POST", "/images/pull", Some(&body)).await?;
                text.push_str(&format!("{reference}: {}\n", answer.str("id")));
            }
        }
        Ask::Remove(references) => {
            for reference in references {
                door.ask("POST", "/images/remove", Some(&json!({"reference": reference}))).await?;
                text.push_str(&format!("{reference}\n"));
            }
        }
        Ask::Tag(source, target) => {
            door.ask("POST", "/images/tag", Some(&json!({"reference": source, "tag": target})))
                .await?;
            text.push_str(&format!("{target}\n"));
        }
    }
    Ok(text)
}

/// One line a name, columns as wide as their longest cell.
fn table(images: &Value, quiet: bool) -> String {
    let mut rows = Vec::new();
    for image in images.list("images") {
        let names: Vec<&str> = image
            .list("tags")
            .iter()
            .chain(image.list("digests"))
            .filter_map(Value::as_str)
            .collect();
        for name in if names.is_empty() { vec![image.str("id")] } else { names } {
            rows.push([
                name.to_owned(),
                image.str("id").to_owned(),
                size(image.int("size").unwrap_or(0)),
                image.str("platform").to_owned(),
            ]);
        }
    }
    rows.arrange();
    if quiet {
        return rows.iter().map(|row| format!("{}\n", row[0])).collect();
    }
    rows.insert(0, ["REF", "ID", "SIZE", "PLATFORM"].map(str::to_owned));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    rows.iter()
        .map(|row| {
            format!(
                "{:w0$} {:w1$} {:w2$} {}\n",
                row[0],
                row[1],
                row[2],
                row[3],
                w0 = widths[0],
                w1 = widths[1],
                w2 = widths[2]
            )
        })
        .collect()
}

fn size(bytes: i64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{}.{} KiB", bytes / 1024, bytes % 1024 * 10 / 1024),
        _ => format!("{}.{} MiB", bytes / 1_048_576, bytes % 1_048_576 * 10 / 1_048_576),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> String {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match parse(&args) {
            Ok(ask) => format!("{ask:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn arguments() {
        for (line, want) in [
            ("images ls -q", "Some(List { quiet: true })"),
            ("-n k8s.io i import a.tar b.tar", "Some(Import([\"a.tar\", \"b.tar\"]))"),
            ("images rm x", "Some(Remove([\"x\"]))"),
            ("images pull", "ctr images: a reference is missing"),
            ("images push x", "ctr images push is not supported by this version of k3rs yet"),
            ("containers ls", "ctr containers is not supported by this version of k3rs yet"),
            (
                "-n default images ls",
                "namespace \"default\": k3rs has images of the namespace k8s.io only",
            ),
            ("images ls --json", "flag provided but not defined: --json"),
            ("", "None"),
        ] {
            assert_eq!(parsed(line), want, "{line}");
        }
    }

    #[test]
    fn lists() {
        let images = json!({"images": [{"id": "sha256:1", "tags": ["docker.io/a:1", "docker.io/a:2"], "size": 2097152, "platform": "linux/amd64"}]});
        assert_eq!(table(&images, true), "docker.io/a:1\ndocker.io/a:2\n");
        assert_eq!(
            table(&images, false).lines().nth(1),
            Some("docker.io/a:1 sha256:1 2.0 MiB linux/amd64")
        );
    }
}
