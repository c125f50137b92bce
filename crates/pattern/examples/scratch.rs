use std::hint::black_box; use std::time::Instant;
use pattern::*;
fn t(name:&str, mut f: impl FnMut()){ f(); let mut best=f64::MAX; let k = {let s=Instant::now(); f(); if s.elapsed().as_micros()>100 {3} else {300}}; for _ in 0..k { let n=k; let s=Instant::now(); for _ in 0..n { f() } let e=s.elapsed().as_nanos() as f64/n as f64; if e<best {best=e} } println!("{name:30} {best:9.1} ns"); }
fn main(){
 let p=b"/src/upload/2024/01/report-0000.to_move";
 for (src,path) in [("^/src/(?P<path>.*)\\.to_move$",&p[..]),("^/src/(?P<path>.*)\\.to_move$",b"/src/upload/2024/01/report-\xff00.to_move"),("^/src/(?P<path>.*)\\.to_move$",b"/src/upload/2024/01/report-0000.to_move\n"),("^/src/(?P<path>.*)\\.to_move",&p[..]),("^/home/(?P<user>\\w+)/in/(.*)\\.(pdf|jpe?g)$",b"/home/someone/in/holiday/IMG_2024_0001.jpeg"),("^/home/(?P<user>\\w+)/in/(.*)\\.(pdf|jpe?g)$","/home/someone/in/holidäy/IMG_2024_0001.jpeg".as_bytes()),
 ("^/home/(?P<user>\\w+)/in/(.*)\\.(pdf|jpe?g)$",b"/home/someone/in/holid\xffy/IMG_2024_0001.jpeg"),
 ("(?i)^/home/(?P<user>\\w+)/in/(.*)\\.(pdf|jpe?g)$",b"/home/someone/in/holiday/IMG_2024_0001.jpeg"),
 ("^/src/(?!skip)(.*)\\.to_move$",&p[..]),("^/src/(?!skip)(.*)\\.to_move$",b"/src/skip.to_move"),
 ("^/(a*)*\\1[bc]\\.x$",b"/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.x"),
 (".*/(?:tmp|cache)/",b"/src/upload/2024/01/report-0000.to_move")]{
  let r=Pattern::new(src.as_bytes()).unwrap(); t(src,||{black_box(r.is_match(black_box(path)).is_ok());});
  println!("   {} bytes, {:?}", r.memory_usage(), r.is_match(path));
 }
 let r=Pattern::new(b"^/src/(?P<path>.*)\\.to_move$").unwrap(); let tm=Template::new(b"/dst/\\g<path>",&r).unwrap();
 t("sub",||{black_box(r.sub_parts(&tm,black_box(p)).is_ok());});
 t("new",||{black_box(Pattern::new(black_box(b"^/src/(?P<path>.*)\\.to_move$")).is_ok());});
 t("new words",||{black_box(Pattern::new(black_box(b"^/home/(?P<user>\\w+)/in/(.*)\\.(pdf|jpe?g)$")).is_ok());});
 for n in [1,10,100,1000]{ 
  let set=PatternSet::new((0..n).map(|i|Pattern::new(format!("^/src/(?P<path>.*)\\.to_move{i:04}$").as_bytes()).unwrap()).collect());
  let path=format!("/src/upload/2024/01/report-0000.to_move{:04}",n-1);
  t(&format!("set suffix {n}"),||{black_box(set.first_match(black_box(path.as_bytes())).is_ok());});
  t(&format!("set none {n}"),||{black_box(set.first_match(black_box(b"/src/upload/2024/01/report-0000.to_move")).is_ok());});
 }
 let start=Instant::now(); let set=PatternSet::new((0..1000).map(|i|Pattern::new(format!("^/src/(?P<path>\\w*)/[0-9]+\\.to_move{i:04}$").as_bytes()).unwrap()).collect()); println!("1000 patterns {:?}, {} bytes each", start.elapsed(), set.patterns().iter().map(Pattern::memory_usage).sum::<usize>()/1000);
 let set=PatternSet::new((0..1000).map(|i|Pattern::new(format!("^/src/\\w*[{}]x", char::from_u32(0x4e00+i).unwrap()).as_bytes()).unwrap()).collect());
 t("set of 1000 alike",||{black_box(set.first_match(black_box(b"/src/uploadx")).is_ok());});
}
